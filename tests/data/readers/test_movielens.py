"""MovieLens in all its layouts."""

import gzip
import zlib

import numpy as np
import polars as pl
import pytest
from realdata import real_data

from mfgan.data.graph import train_vectors
from mfgan.data.readers import read_log
from mfgan.errors import MfganError

FLAGS = "|".join(["0"] * 19)


def _flags(*places: int) -> str:
    return "|".join("1" if place in places else "0" for place in range(19))


@pytest.fixture
def ml_100k(tmp_path):
    (tmp_path / "u.data").write_text("1\t10\t5\t100\n2\t11\t3\t90\n1\t11\t4\t80\n")
    rows = [
        f'10|Caf\xe9 "Noir" (1995)|01-Jan-1995||http://x|{_flags(1, 5)}',
        f"11|unknown||||{_flags(0)}",
    ]
    (tmp_path / "u.item").write_bytes("\n".join(rows).encode("latin-1"))
    return tmp_path


def test_ml_100k(ml_100k):
    log = read_log(str(ml_100k), format="ml-100k")
    assert log.interactions.collect().to_dict(as_series=False) == {
        "user_id": [1, 2, 1],
        "item_id": [10, 11, 11],
        "timestamp": [100_000, 90_000, 80_000],
        "rating": [5.0, 3.0, 4.0],
    }
    assert log.items.collect().to_dict(as_series=False) == {
        "item_id": [10, 11],
        "title": ['Café "Noir" (1995)', "unknown"],
        "genre": [["Action", "Comedy"], None],
        "year": ["1995", None],
    }
    assert {name: rule.kind for name, rule in log.attributes.items()} == {
        "genre": "multi",
        "year": "categorical",
    }
    assert [(s.path, s.rows) for s in log.sources] == [("u.data", 3), ("u.item", 2)]


def test_ml_100k_packed_and_without_movies(ml_100k):
    (ml_100k / "u.item").unlink()
    data = ml_100k / "u.data"
    (ml_100k / "u.data.gz").write_bytes(gzip.compress(data.read_bytes()))
    data.unlink()
    for source in (ml_100k, ml_100k / "u.data.gz"):
        log = read_log(str(source), format="ml-100k")
        assert log.interactions.collect().height == 3
        assert log.items is None


def test_ml_100k_as_recbole_lays_it_out(tmp_path):
    (tmp_path / "ml-100k.inter").write_text(
        "user_id:token\titem_id:token\trating:float\ttimestamp:float\n1\t10\t5\t100\n"
    )
    (tmp_path / "ml-100k.item").write_text(
        "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
        '10\tToy "Story\tV\tunknown\n11\tOther\t1995\tAction Film-Noir\n'
    )
    log = read_log(str(tmp_path), format="ml-100k")
    assert log.interactions.collect().row(0) == (1, 10, 100_000, 5.0)
    items = log.items.collect()
    assert items["genre"].to_list() == [None, ["Action", "Film-Noir"]]
    assert items["year"].to_list() == [None, "1995"]
    # The official ratings may lie beside RecBole's movies.
    (tmp_path / "u.data").write_text("1\t11\t5\t100\n")
    assert read_log(str(tmp_path), format="ml-100k").items.collect().height == 2


@pytest.fixture
def ml_1m(tmp_path):
    (tmp_path / "ratings.dat").write_text("7::20::5::978300760\n7::21::4::978300700\n")
    movies = "20::Caf\xe9 (1931)::Drama|Film-Noir\n21::Nobody::(no genres listed)\n"
    (tmp_path / "movies.dat").write_bytes(movies.encode("latin-1"))
    folder = tmp_path / "factors"
    folder.mkdir()
    details = (
        '20::Café::1931::PG::1 Jan 1931::Drama::Ann Lee, Bo Ek::W::Cy Um, Di Po::Plot, "so"::u\r\n'
        "99::Elsewhere::1999::R::::Drama::nan::W::N/A::P::u\r\n"
    )
    (folder / "movies_extrainfos.dat.gz").write_bytes(gzip.compress(details.encode()))
    triples = "5\tfilm.film.star\t80\n5\tfilm.film.star\t70\n6\tfilm.film.star\t70\n"
    (folder / "mkr_kg.txt").write_text(triples)
    (folder / "mkr_item_index2entity_id.txt").write_text("20\t5\n99\t6\n")
    return tmp_path


ML_1M_ITEM = {
    "item_id": 20,
    "title": "Café (1931)",
    "genre": ["Drama", "Film-Noir"],
    "year": "1931",
    "rating_board": "PG",
    "director": ["Ann Lee", "Bo Ek"],
    "actors": ["Cy Um", "Di Po"],
    "knowledge_graph": ["star:70", "star:80"],
}


def test_ml_1m(ml_1m):
    log = read_log(str(ml_1m), format="ml-1m")
    assert log.interactions.collect().rows() == [
        (7, 20, 978300760000, 5.0),
        (7, 21, 978300700000, 4.0),
    ]
    items = log.items.collect()
    first, second = items.drop("graph_vector").rows(named=True)
    assert first == ML_1M_ITEM
    assert second == dict.fromkeys(ML_1M_ITEM) | {"item_id": 21, "title": "Nobody"}
    assert set(log.attributes) == set(ML_1M_ITEM) - {"item_id", "title"} | {"graph_vector"}
    vector, unknown = items["graph_vector"]
    assert unknown is None
    # Entities by name: 5, 6, 70, 80.
    triples = np.array([[0, 0, 3], [0, 0, 2], [1, 0, 2]])
    assert vector.to_list() == train_vectors(triples, 4, 1)[0].tolist()
    assert [source.path for source in log.sources] == [
        "ratings.dat",
        "movies.dat",
        "movies_extrainfos.dat.gz",
        "mkr_kg.txt",
        "mkr_item_index2entity_id.txt",
    ]


def test_ml_1m_without_times_goes_by_its_order_column(ml_1m):
    (ml_1m / "ratings.dat").unlink()
    pl.DataFrame(
        {
            "user_id": [7, 7, 7],
            "movie_id": [20, 21, 20],
            "rating": [1, 2, 3],
            "timestamp": [978300760, None, None],
            "chron_rank": [3, 1, None],
        }
    ).write_parquet(ml_1m / "ratings.parquet")
    frame = read_log(str(ml_1m), format="ml-1m").interactions.collect()
    assert frame["order"].to_list() == [3, 1, None]
    assert frame["timestamp"].to_list() == [978300760000, None, None]


def test_sasrec_file_takes_the_ids_of_movielens(ml_1m):
    path = ml_1m / "sasrec.txt.gz"
    path.write_bytes(gzip.compress(b"1 2\n1 1\n"))
    (ml_1m / "sas_to_original_users.txt").write_text("1 7\n")
    (ml_1m / "sas_to_original_items.txt").write_text("1 20\n2 21\n")
    log = read_log(str(path), format="ml-1m")
    assert log.interactions.collect().rows() == [(7, 21), (7, 20)]
    assert log.items.collect().drop("graph_vector").row(0, named=True) == ML_1M_ITEM
    (ml_1m / "sas_to_original_items.txt").write_text("1 20\n")
    with pytest.raises(MfganError, match=r"items.txt must map every id, got none for 2"):
        read_log(str(path), format="ml-1m")


def test_sasrec_file_alone_keeps_its_own_ids(tmp_path):
    path = tmp_path / "sasrec.txt"
    path.write_text("1 2\n1 1\n")
    log = read_log(str(path), format="ml-1m")
    assert log.interactions.collect().rows() == [(1, 2), (1, 1)]
    assert log.items is None


def test_movielens_csv(tmp_path):
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,5,3.5,1112486027\n")
    (tmp_path / "movies.csv").write_text(
        'movieId,title,genres\n5,"American President, The (1995)",Comedy|Drama\n'
        "6,Série (2006–2007),(no genres listed)\n7,Babylon (1994-),Sci-Fi\n"
    )
    log = read_log(str(tmp_path), format="movielens-csv")
    assert log.interactions.collect().rows() == [(1, 5, 1112486027000, 3.5)]
    items = log.items.collect()
    assert items["title"][0] == "American President, The (1995)"
    assert items["genre"].to_list() == [["Comedy", "Drama"], None, ["Sci-Fi"]]
    assert items["year"].to_list() == ["1995", "2006", "1994"]


@pytest.mark.parametrize(
    ("format", "name", "content", "message"),
    [
        ("ml-100k", "u.data", b"1,2,3,4\n", "line 1 of u.data .* have 4 fields, got 1"),
        ("ml-100k", "u.data", b"1\t2\t3\t4\n1\t2\t3\tx\n", "line 2 of u.data .* got 'x'"),
        ("ml-100k", "u.data", b"", "must hold interactions, found none"),
        ("ml-100k", "other", b"", r"must hold u.data or ml-100k.inter .* found other"),
        ("ml-1m", "ratings.dat", b"1::2::3::4::5\n", "line 1 of ratings.dat .*, got 5"),
        ("ml-1m", "sasrec.txt", b"1 2\n1 2 3\n", "line 2 of sasrec.txt .*, got 3"),
        ("movielens-csv", "ratings.csv", b"user,item\n1,2\n", "have a column 'userId', got user"),
        ("ml-100k", "u.data.gz", gzip.compress(b"1\t2\t3\t4\n")[:-9], "must be a whole gzip file"),
        ("ml-100k", "u.data.gz", b"", "u.data.gz must not be empty, got 0 bytes"),
        ("ml-1m", "ratings.dat.gz", zlib.compress(b"1::2::3::4\n"), "must be a gzip file, got other"),
    ],
)  # fmt: skip
def test_bad_input(tmp_path, format, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(MfganError, match=message) as error:
        read_log(str(tmp_path), format=format)
    assert "\n" not in str(error.value)


def test_item_table_with_other_ids_is_refused(ml_100k):
    (ml_100k / "u.item").write_bytes(f"77|Title||||{FLAGS}\n".encode())
    with pytest.raises(MfganError, match=r"none in common; ids of the log are like 10, .* like 77"):
        read_log(str(ml_100k), format="ml-100k")


def test_real_ml_100k():
    log = read_log(str(real_data("ml-100k")), format="ml-100k")
    frame = log.interactions.collect()
    assert (frame.height, frame["user_id"].n_unique(), frame["item_id"].n_unique()) == (
        100_000,
        943,
        1682,
    )
    assert frame["timestamp"].min() == 874_724_710_000
    genres = log.items.collect()["genre"].explode().drop_nulls()
    assert genres.n_unique() == 18


def test_real_ml_1m():
    log = read_log(str(real_data("ml-1m")), format="ml-1m")
    frame = log.interactions.collect()
    assert frame.height == 1_000_209
    assert frame["order"].null_count() == 598
    assert (frame.filter(pl.col("timestamp").is_null())["user_id"] >= 3000).all()
    # Where both are known they tell the same order.
    both = frame.filter(pl.col("timestamp").is_not_null() & pl.col("order").is_not_null())
    ordered = both.sort("user_id", "order")
    steps = ordered.select(pl.col("timestamp").diff().over("user_id").drop_nulls())
    assert steps.to_series().min() >= 0


def test_real_sasrec_file_has_a_title_and_director_for_its_movies():
    log = read_log(str(real_data("ml-1m/sasrec.txt.gz")), format="ml-1m")
    frame, items = log.interactions.collect(), log.items.collect()
    assert (frame.height, frame["user_id"].n_unique(), frame["item_id"].n_unique()) == (
        999_611,
        6040,
        3416,
    )
    met = items.join(frame.select("item_id").unique(), on="item_id")
    assert met.height == 3416
    assert met["title"].null_count() == 0
    assert met["director"].null_count() < 20
