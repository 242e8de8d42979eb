"""Tables of any kind: what comes out is what was written, and what cannot be read is named."""

import gzip
import json
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mfgan.console import Reporter
from mfgan.data.readers import read_log, table
from mfgan.errors import MfganError

COLUMNS = ["user_id", "item_id", "timestamp"]
SUFFIXES = [".csv", ".tsv", ".parquet", ".ndjson", ".csv.gz", ".csv.zst", ".ndjson.gz"]


def write(frame: pl.DataFrame, path: Path) -> Path:
    plain, packing = path.name.split(".", 1)[1], ""
    if "." in plain:
        plain, packing = plain.split(".")
    text = {
        "csv": lambda: frame.write_csv().encode(),
        "tsv": lambda: frame.write_csv(separator="\t").encode(),
        "ndjson": lambda: frame.write_ndjson().encode(),
    }
    if plain == "parquet":
        frame.write_parquet(path)
        return path
    data = text[plain]()
    if packing == "gz":
        data = gzip.compress(data)
    elif packing == "zst":
        data = pa.Codec("zstd").compress(data).to_pybytes()
    path.write_bytes(data)
    return path


def read(path: Path, **options) -> pl.DataFrame:
    return read_log(str(path), format="table", **options).interactions.collect()


_ids = st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5) | st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1).filter(
        lambda text: text not in ("nan", "NaN", "null", "None", "NULL")
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data(), st.sampled_from(SUFFIXES))
def test_what_is_written_is_read(tmp_path, data, suffix):
    users, items = data.draw(_ids), data.draw(_ids)
    count = data.draw(st.integers(1, 6))
    rows = [
        (
            data.draw(st.sampled_from(users)),
            data.draw(st.sampled_from(items)),
            data.draw(st.integers(1, 4 * 10**9)),
        )
        for _ in range(count)
    ]
    frame = pl.DataFrame(rows, schema=COLUMNS, orient="row")
    found = read(write(frame, tmp_path / f"log{suffix}"))
    assert found.columns == COLUMNS
    assert found["timestamp"].to_list() == [row[2] * 1000 for row in rows]
    for place, name in enumerate(COLUMNS[:2]):
        # Text that is nothing but whole numbers in their plain form may come back as numbers.
        assert [str(value) for value in found[name]] == [str(row[place]) for row in rows]
        if isinstance(rows[0][place], int):
            assert found[name].dtype == pl.Int64


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_are_mapped_and_others_left_out(tmp_path, suffix):
    frame = pl.DataFrame(
        {"note": ["x,y", 'say "hi"'], "visitor": ["007", "b"], "sku": [5, 6], "score": [1.5, None]}
    )
    path = write(frame, tmp_path / f"log{suffix}")
    log = read_log(
        str(path),
        format="table",
        columns={"user_id": "visitor", "item_id": "sku", "rating": "score"},
    )
    assert log.interactions.collect().to_dict(as_series=False) == {
        "user_id": ["007", "b"],
        "item_id": [5, 6],
        "rating": [1.5, None],
    }
    assert (log.items, log.attributes) == (None, {})
    (source,) = log.sources
    assert (source.path, source.rows, source.bad_lines) == (path.name, 2, 0)
    assert source.bytes == path.stat().st_size
    assert len(source.sha256) == 64


def test_leading_zeros_are_no_numbers(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n007,1\n7,2\n")
    assert read(path)["user_id"].to_list() == ["007", "7"]


def test_order_column_lets_times_be_absent(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id,timestamp,rank\n1,1,,2\n1,2,9,\n")
    frame = read(path, columns={"order": "rank"})
    assert frame["timestamp"].to_list() == [None, 9000]
    assert frame["order"].to_list() == [2, None]


def test_folder_and_pattern_of_parquet(tmp_path):
    for part in range(3):
        pl.DataFrame({"user_id": [part], "item_id": [10 + part]}).write_parquet(
            tmp_path / f"part-{part}.parquet"
        )
    for source in (tmp_path, tmp_path / "part-*.parquet"):
        log = read_log(str(source), format="table")
        assert log.interactions.collect()["user_id"].to_list() == [0, 1, 2]
        assert [part.path for part in log.sources] == [f"part-{i}.parquet" for i in range(3)]


@pytest.mark.parametrize(
    ("address", "scan"),
    [
        ("s3://bucket/log/*.parquet", "scan_parquet"),
        ("hf://datasets/a/b/log.csv", "scan_csv"),
        ("https://example.org/log.ndjson?x=1", "scan_ndjson"),
    ],
)
def test_addresses_go_to_polars_as_they_are(monkeypatch, address, scan):
    asked = []

    def fake(source, **_):
        asked.append(source)
        return pl.LazyFrame({"user_id": ["1"], "item_id": ["2"], "timestamp": ["3"]})

    monkeypatch.setattr(table.pl, scan, fake)
    log = read_log(address, format="table")
    assert asked == [address]
    assert log.interactions.collect().rows() == [(1, 2, 3000)]
    assert log.sources[0].path == address
    assert log.sources[0].sha256 is None


TIMED = "user_id,item_id,timestamp\n1,2,3\n"
NOT_DATES = "is not a record: timestamp must be a number or an ISO date, got"
TWO_BAD = "; 2 in all, where --max-bad-lines allows 0"
BAD = [
    ("log.csv", "", "log.csv must begin with column names, found nothing"),
    ("log.csv", "user_id,item_id\n", "must hold interactions, found none"),
    ("log.csv", "a,b\n1,2\n", r"must have a column 'user_id', got a, b; name the right one with"),
    ("log.csv", "userid,item_id\n1,2\n", r"got userid, item_id; did you mean 'userid'\?"),
    ("log.csv", "user_id,item_id,user_id\n", "columns of different names, got 'user_id' twice"),
    ("log.csv", TIMED + "1,2\n", "line 3 of log.csv is not a record: must have 3 fields, got 2"),
    ("log.csv", TIMED + "\n1,2,3,4\n", "line 4 of log.csv is not a record: .*, got 4 fields"),
    (
        "log.csv",
        "user_id,item_id\n1,2\n,2\n",
        "line 3 of log.csv is not a record: user_id is empty",
    ),
    (
        "log.csv",
        "item_id,user_id\nnan,2\n7,\n",
        "line 2 .* got 'nan'; line 3: user_id is.*" + TWO_BAD,
    ),
    ("log.csv", TIMED + "1,2,soon\n", f"line 3 of log.csv {NOT_DATES} 'soon'"),
    (
        "log.csv",
        "user_id,item_id,timestamp\n1,2,2020-13-01\n",
        f"line 2 .* {NOT_DATES} '2020-13-01'",
    ),
    ("log.csv", "user_id,item_id,order\n1,2,first\n", "order must be a number, got 'first'"),
    ("log.csv", b"user_id,item_id\n\xff\xfe,2\n", "log.csv must be UTF-8 text, got other bytes"),
    (
        "log.ndjson",
        '{"user_id": 1, "item_id": 2}\n{"user_id":\n',
        "line 2 of log.ndjson is not a record",
    ),
    ("log.ndjson", "[1]\n", "line 1 of log.ndjson is not a record: must be an object, got"),
    ("log.ndjson", "", "log.ndjson must hold interactions, found none"),
    (
        "log.ndjson",
        '{"user_id": 1, "item_id": 2}\n{"user_id": 1, "item_id": [3, 4]}\n',
        r"line 2 of log.ndjson is not a record: item_id must be an integer or text, got \[3, 4\]$",
    ),
    (
        "log.ndjson",
        '{"user_id": 1, "item_id": [3, 4]}\n',
        r"line 1 of log.ndjson is not a record: item_id must be an integer or text, got \[3, 4\]$",
    ),
    (
        "log.ndjson",
        '{"user_id": {"a": 1}, "item_id": 3}\n{"user_id": 5, "item_id": {"b": 1}}\n',
        "line 1 .*: user_id must be .*, got {'a': 1}; line 2: item_id must be .*, got {'b': 1};",
    ),
    (
        "log.ndjson",
        '{"user_id": 1, "item_id": 2, "event": ["buy"]}\n',
        r"line 1 of log.ndjson is not a record: event must be text, got \['buy'\]$",
    ),
    ("log.parquet", b"no parquet", "log.parquet must be a table that can be read, got: "),
    ("log.csv.gz", b"no gzip", "log.csv.gz must be a gzip file, got other contents"),
    ("log.csv.gz", b"", "log.csv.gz must not be empty, got 0 bytes"),
    ("log.xlsx", b"x", r"a table must end in .csv, .tsv, .txt, .parquet, .ndjson or .jsonl"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_input_is_one_line(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(MfganError, match=message) as error:
        read(path)
    assert str(error.value).startswith("prepare: ")
    assert "\n" not in str(error.value)


def test_a_column_of_ndjson_may_begin_late(tmp_path):
    path = tmp_path / "log.ndjson"
    early, late = {"user_id": 1, "item_id": 2}, {"user_id": 1, "item_id": 3, "order": 7}
    path.write_text("\n".join(map(json.dumps, [early] * 20_000 + [late])))
    assert read(path)["order"].to_list()[-2:] == [None, 7]


@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("kind", ["csv", "ndjson"])
def test_truncated_files(tmp_path, kind, packing):
    frame = pl.DataFrame(
        {"user_id": range(20000), "item_id": [i * 7919 % 9973 for i in range(20000)]}
    )
    path = tmp_path / f"log.{kind}.{packing}"
    text = frame.write_csv() if kind == "csv" else frame.write_ndjson()
    data = gzip.compress(text.encode())
    if packing == "zst":
        data = pa.Codec("zstd").compress(text.encode()).to_pybytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        MfganError, match=rf"log.{kind}.{packing} must be a whole .* got a truncated one"
    ):
        read(path)


def test_missing_unreadable_and_wrong_options(tmp_path):
    with pytest.raises(MfganError, match=r"none\.csv must exist, found nothing"):
        read(tmp_path / "none.csv")
    with pytest.raises(MfganError, match=r"none/\*.parquet|none must exist"):
        read(tmp_path / "none" / "*.parquet")
    with pytest.raises(MfganError, match="must name Parquet files, found none"):
        read(tmp_path)
    path = tmp_path / "log.csv"
    path.write_text("user_id,item_id\n1,2\n")
    with pytest.raises(MfganError, match=r"mapped to one of user_id, .* got 'item'; did you mean"):
        read(path, columns={"item": "item_id"})
    with pytest.raises(MfganError, match=r"must have a column 'when', got user_id, item_id"):
        read(path, columns={"timestamp": "when"})
    with pytest.raises(MfganError, match="--max-bad-lines must be 0 or more, got -1"):
        read(path, max_bad_lines=-1)
    with pytest.raises(
        MfganError, match=r"--format must be one of .*, got 'tabel'; did you mean 'table'"
    ):
        read_log(str(path), format="tabel")


@pytest.mark.parametrize("suffix", [".csv", ".ndjson", ".parquet"])
def test_bad_records_up_to_the_limit_are_left_out_and_named(tmp_path, capsys, suffix):
    path = tmp_path / f"log{suffix}"
    frame = pl.DataFrame({"user_id": ["a", None, "b", "", "c"], "item_id": [1, 2, None, 4, 5]})
    write(frame, path)
    with pytest.raises(MfganError, match="3 in all, where --max-bad-lines allows 2"):
        read(path, max_bad_lines=2)
    log = read_log(str(path), format="table", max_bad_lines=3, reporter=Reporter(quiet=False))
    assert log.interactions.collect().rows() == [("a", 1), ("c", 5)]
    assert (log.sources[0].rows, log.sources[0].bad_lines) == (2, 3)
    line = capsys.readouterr().out
    unit, first = ("row", 2) if suffix == ".parquet" else ("line", 3 if suffix == ".csv" else 2)
    assert f"left out 3 bad {unit}s of {path.name} ({unit} {first}: user_id is empty; " in line


def test_damaged_text_is_read_as_far_as_it_is_sound(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text('user_id,note,item_id\n1,"a,\nb",2\n3,4\n5,x,6,7\n\n8,,9\n')
    assert read(path, max_bad_lines=2).rows() == [(1, 2), (8, 9)]
    path = tmp_path / "log.ndjson"
    records = [
        "{",
        json.dumps({"user_id": 1, "item_id": "x"}),
        "",
        json.dumps({"user_id": "u", "item_id": 3}),
    ]
    path.write_text("\n".join(records))
    assert read(path, max_bad_lines=1).rows() == [("1", "x"), ("u", "3")]
