"""``mfgan prepare``: its options reach the manifest, and what is wrong gets one line and status 2."""

import json

import pytest

from mfgan.cli import main

ROWS = [(u, i, 1000 * (7 * u + i)) for u in range(8) for i in range(6)]
HEAD = "user_id,item_id,timestamp"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("\n".join([HEAD, *(f"u{u},i{i},{t}" for u, i, t in ROWS)]) + "\n")
    return path


def run(capsys, *arguments):
    """Status, standard output and error lines of a command."""
    status = 0
    try:
        main(["prepare", *map(str, arguments)])
    except SystemExit as stop:
        status = stop.code
    captured = capsys.readouterr()
    return status or 0, captured.out, captured.err.strip().splitlines()


def test_it_says_what_each_step_kept(log, tmp_path, capsys):
    status, out, err = run(capsys, log, tmp_path / "out", "--k-core", 3)
    assert (status, err) == (0, [])
    for word in ("read", "duplicates", "3-core", "48", "32 interactions train, 8 users validate"):
        assert word in out


def test_json_stands_alone_on_standard_output(log, tmp_path, capsys):
    status, out, err = run(capsys, log, tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert err
    status, out, err = run(capsys, log, tmp_path / "out", "--overwrite", "--quiet", "--json")
    assert json.loads(out)["num_users"] == 8
    assert err == []


def test_options_reach_the_manifest(tmp_path, capsys):
    lines = ["who;what;when", *(f"{u};{i};{t}" for u, i, t in ROWS)]
    (tmp_path / "log.csv").write_text("\n".join(lines))
    (tmp_path / "items.csv").write_text(
        "what,genre,size\n" + "\n".join(f"{i},{'ab'[i % 2]},{i}" for i in range(6))
    )
    options = [
        "--columns",
        "user_id=who,item_id=what",
        "--columns",
        "timestamp=when",
        "--items",
        tmp_path / "items.csv",
        "--factors",
        "genre",
        "--min-count",
        2,
        "--k-core",
        1,
        "--max-len",
        5,
        "--duplicates",
        "once",
        "--name",
        "small",
        "--split",
        "temporal",
        "--cut-times",
        "1970-01-01T05:00:00,38000000",
    ]
    status, out, _ = run(capsys, tmp_path / "log.csv", tmp_path / "out", "--json", *options)
    manifest = json.loads(out)
    assert status == 0
    assert manifest["name"] == "small"
    assert manifest["rules"] == {
        "k_core": 1,
        "duplicates": "once",
        "short_histories": "error",
        "max_len": 5,
        "split": "temporal",
        "cut_times": [18_000_000, 38_000_000],
        "min_count": 2,
        "co_occurrence": None,
    }
    assert [entry["name"] for entry in manifest["factors"]] == ["id", "popularity", "genre"]
    assert manifest["num_interactions"] == 40


BAD = [
    ("", [], "must begin with column names, found nothing"),
    (HEAD + "\n", [], "must hold interactions, found none"),
    ("user,item_id\na,b\n", [], "must have a column 'user_id', got user, item_id"),
    (None, ["--columns", "user_id"], "--columns must be OURS=THEIRS, got 'user_id'"),
    (None, ["--columns", "user_id=usr"], "must have a column 'usr'"),
    (None, ["--columns", "usr=user_id"], "did you mean 'user_id'"),
    (None, ["--format", "ml-10m"], "--format must be one of"),
    (None, ["--k-core", 0], "--k-core must be at least 1, got 0"),
    (None, ["--k-core", 9], "--k-core 9 must leave interactions, got none of 48"),
    (None, ["--max-len", 2], "--max-len must be at least 3 under this split, got 2"),
    (None, ["--factors", "genre"], "a factor must be one of id, popularity, got 'genre'"),
    (None, ["--min-count", 0], "--min-count must be at least 1, got 0"),
    (None, ["--max-bad-lines", -1], "--max-bad-lines must be 0 or more, got -1"),
    (None, ["--split", "temporal", "--quantiles", "0.9"], "--quantiles must be two, with a comma"),
    (None, ["--split", "temporal", "--quantiles", "0.9,x"], "--quantiles must be two"),
    (None, ["--split", "temporal", "--quantiles", "0.9,0.8"], "--quantiles must rise between"),
    (None, ["--split", "temporal", "--cut-times", "2020,today"], "--cut-times must be two"),
    (None, ["--split", "temporal", "--cut-times", "9,1"], "--cut-times must rise, got 9 and 1"),
    (None, ["--split", "temporal", "--cut-times", "0,9223372036854775808"], "must be milliseconds"),
    (None, ["--split", "temporal", "--cut-times", f"-{10**30},0"], "--cut-times must be millisec"),
    (None, ["--k-core", 10**30], "'--k-core': 1000000000000000000000000000000 is not in the range"),
    (None, ["--max-len", 2**31], "'--max-len': 2147483648 is not in the range x<=2147483647"),
    (None, ["--min-count", 2**64], "'--min-count': 18446744073709551616 is not in the range"),
    (None, ["--co-occurrence", 2**64], "'--co-occurrence': 18446744073709551616 is not in the"),
    (HEAD + "\n" + "a,x,1\nb,x,2\nc,x,3\n", ["--k-core", 1], "got 3 users with fewer"),
    (HEAD + "\n" + "a,x,1\na,x,2\na,x,3\n", ["--k-core", 1], "at least 2 items, got 1"),
    (HEAD + "\n" + "a,x,NaN\na,y,2\na,z,3\n", ["--k-core", 1], "line 2 of log.csv is not a record"),
    (HEAD + "\n" + "a,x,1\na,,2\na,z,3\n", ["--k-core", 1], "line 3 of log.csv is not a record"),
    (HEAD + "\n" + "a,x,soon\n", ["--k-core", 1], "timestamp must be a number or an ISO date"),
    (
        "user_id,item_id\na,x\na,y\na,z\n",
        ["--split", "temporal", "--k-core", 1],
        "must have timest",
    ),
]


@pytest.mark.parametrize(("text", "options", "message"), BAD)
def test_what_is_wrong_gets_one_line(log, tmp_path, capsys, text, options, message):
    if text is not None:
        log.write_text(text)
    before = sorted(path.name for path in tmp_path.iterdir())
    status, _, err = run(capsys, log, tmp_path / "out", "--quiet", *options)
    assert status == 2
    assert len(err) == 1
    assert message in err[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_missing_log_and_a_directory_that_is_there(log, tmp_path, capsys):
    status, _, err = run(capsys, tmp_path / "none.csv", tmp_path / "out", "--quiet")
    assert (status, len(err)) == (2, 1)
    assert "must exist, found nothing" in err[0]
    (tmp_path / "out").mkdir()
    status, _, err = run(capsys, log, tmp_path / "out", "--quiet")
    assert (status, len(err)) == (2, 1)
    assert "must not exist yet" in err[0]


def test_a_factor_that_nobody_knows(log, tmp_path, capsys):
    (tmp_path / "items.csv").write_text("item_id,genre\ni0,\ni1,\nzz,x\nzy,x\n")
    status, _, err = run(
        capsys, log, tmp_path / "out", "--quiet", "--items", tmp_path / "items.csv"
    )
    assert (status, len(err)) == (2, 1)
    assert "factor 'genre' must be known for some item, got none of 6" in err[0]


def test_bad_lines_may_be_allowed(log, tmp_path, capsys):
    with log.open("a") as handle:
        handle.write("u1,,5\nu2,i3,never\n")
    status, out, _ = run(capsys, log, tmp_path / "out", "--json", "--max-bad-lines", 2)
    assert status == 0
    steps = json.loads(out)["steps"]
    assert (steps[0]["interactions"], steps[0]["dropped"], steps[0]["why"]) == (48, 2, "no record")
