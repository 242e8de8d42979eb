"""``mfgan recommend`` for all users and for tables of sessions."""

import gzip
import json

import polars as pl
import pytest
from made import made_dataset
from made_run import finished_run

from mfgan.cli import main
from mfgan.explain import Explainer
from mfgan.recommend import Recommender


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    return finished_run(path / "run", made_dataset(path))


@pytest.fixture
def in_small_blocks(monkeypatch):
    monkeypatch.setattr("mfgan.recommend._BLOCK_BYTES", 1)
    monkeypatch.setattr("mfgan.recommend._BLOCK_SESSIONS", 7)


def call(capsys, *arguments):
    """Run the command; its exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        main(["recommend", *(str(argument) for argument in arguments)])
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


@pytest.mark.usefixtures("in_small_blocks")
def test_every_user(run, capsys, tmp_path):
    out = tmp_path / "deep" / "all.parquet"
    code, printed, err = call(capsys, run.path, "--all-users", "--out", out, "-k", 4, "--json")
    assert code == 0, err
    users = list(run.dataset.user_ids)
    expected = Recommender(run).recommend(users=users, k=4)
    found = pl.read_parquet(out)
    assert found.columns == ["user_id", "rank", "item_id", "title", "score", "probability"]
    assert found.drop("score", "probability").equals(
        expected.drop("item_idx", "score", "probability")
    )
    assert (found["score"] - expected["score"]).abs().max() < 1e-5
    document = {"file": str(out), "histories": len(users), "rows": 4 * len(users), "skipped": []}
    assert json.loads(printed) == document


@pytest.mark.usefixtures("in_small_blocks")
@pytest.mark.parametrize("kind", ["csv", "tsv", "csv.gz", "parquet", "jsonl"])
def test_a_table_of_sessions(run, capsys, tmp_path, kind):
    rows = [
        ("b", "i0003"),
        ("a", "i0001"),
        ("b", "??"),
        ("no", "?!"),
        ("a", "i0002"),
        ("b", "i0001"),
    ]
    frame = pl.DataFrame(rows, schema=["session", "item_id"], orient="row")
    path, out = tmp_path / f"sessions.{kind}", tmp_path / "out.parquet"
    write = {
        "csv": frame.write_csv,
        "csv.gz": lambda to: to.write_bytes(gzip.compress(frame.write_csv().encode())),
        "tsv": lambda to: frame.write_csv(to, separator="\t"),
        "parquet": frame.write_parquet,
        "jsonl": frame.write_ndjson,
    }
    write[kind](path)
    code, printed, _ = call(capsys, run.path, "--sessions", path, "--out", out, "-k", 3)
    assert code == 0
    shown = " ".join(printed.split())
    assert "skipped 2 items not in the catalogue: ?!, ??" in shown
    assert "skipped 1 sessions: no" in shown
    assert "6 items for 2 histories" in shown
    found = pl.read_parquet(out)
    expected = Recommender(run).recommend(sessions=[["i0003", "i0001"], ["i0001", "i0002"]], k=3)
    assert found["session"].to_list() == ["b"] * 3 + ["a"] * 3
    assert found["item_id"].to_list() == expected["item_id"].to_list()


def test_with_reasons(run, capsys, tmp_path):
    out = tmp_path / "out.parquet"
    assert call(capsys, run.path, "--all-users", "--out", out, "-k", 2, "--explain")[0] == 0
    explainer = Explainer(run)
    sessions = [explainer.recommender.user(name) for name in ("u0000", "u0001")]
    expected = explainer.reasons(sessions, explainer.recommender.rank(sessions, k=2))
    found = pl.read_parquet(out).head(4)
    for column in ("leading", "reasons", "score_parts"):
        for mine, theirs in zip(found[column], expected[column], strict=True):
            assert _rounded(mine) == _rounded(theirs)


def _rounded(value):
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-4, abs=1e-5)
    if isinstance(value, dict):
        return {name: _rounded(part) for name, part in value.items()}
    if isinstance(value, (list, pl.Series)):
        return [_rounded(part) for part in value]
    return value


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--all-users", "give --out with --all-users or --sessions"),
        ("--user u0001 --out {out}", "give --out with --all-users or --sessions, and only there"),
        ("--user u0001 --all-users --out {out}", "give one of --user, --session, --all-users and"),
        ("--sessions {x}/s.xlsx --out {out}", "recommend: {x}/s.xlsx must exist, found nothing"),
        (
            "--sessions {x}/s.doc --out {out}",
            "recommend: a table must end in .csv, .tsv, .txt, .par",
        ),
        (
            "--sessions {x}/none.csv --out {out}",
            "recommend: {x}/none.csv must exist, found nothing",
        ),
        (
            "--sessions {x}/column.csv --out {out}",
            "must have the column item_id, got session, item",
        ),
        ("--sessions {x}/strange.csv --out {out}", "must hold a session with a known item, found"),
        (
            "--sessions {x}/broken.parquet --out {out}",
            "recommend: {x}/broken.parquet must be a table that can be read, got",
        ),
    ],
)
def test_mistakes_take_a_line_and_leave_no_file(run, capsys, tmp_path, words, message):
    (tmp_path / "column.csv").write_text("session,item\na,i0001\n")
    (tmp_path / "strange.csv").write_text("session,item_id\na,??\n")
    (tmp_path / "s.doc").write_text("session,item_id\na,i0001\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 and nothing")
    out = tmp_path / "out.parquet"
    code, _, err = call(capsys, run.path, *words.format(x=tmp_path, out=out).split())
    assert code == 2
    assert message.format(x=tmp_path) in err
    assert len(err.strip().splitlines()) == 1
    assert not out.exists()
