"""The commands that use a run: eval, recommend, explain, report."""

import json
import re
import shlex
import subprocess
import sys

import polars as pl
import pytest
import torch
from made import made_dataset
from made_run import finished_run

from mfgan.cli import main
from mfgan.cli.explain import file_name
from mfgan.cli.recommend import ids_of, why
from mfgan.evaluation.protocol import evaluate
from mfgan.evaluation.scorers import GeneratorScorer


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli")
    return finished_run(path / "run", made_dataset(path, num_users=60))


def call(capsys, *arguments):
    """Run a command; its exit status, standard output and standard error."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    shown = capsys.readouterr()
    return ended.value.code or 0, shown.out, shown.err


def test_eval_prints_json(run, capsys):
    code, out, _ = call(capsys, "eval", run.path, "--json", "-", "--split", "validation")
    found = json.loads(out)
    generator = GeneratorScorer(run.generator())
    expected = evaluate(run.dataset, generator, split="validation", max_len=10)
    assert code == 0
    assert found["metrics"] == expected.metrics
    assert found["intervals"]["NDCG@10"] == list(expected.interval("NDCG@10"))
    names = [other["name"] for other in found["others"]]
    assert names == ["popularity", "item-kNN", "pretrain-generator"]
    assert len(found["comparisons"]) == 9


def test_eval_shows_tables_and_writes_files(run, capsys, tmp_path):
    files = {"--json": tmp_path / "deep" / "a.json", "--per-user": tmp_path / "b.parquet"}
    options = [part for pair in files.items() for part in pair]
    code, out, _ = call(capsys, "eval", run.path, "--no-baselines", *options)
    assert code == 0
    for text in ("NDCG@20", "95 % interval", "coverage@10", "under 32", "p (Holm)"):
        assert text in out
    document = json.loads(files["--json"].read_text())
    frame = pl.read_parquet(files["--per-user"])
    assert frame.columns[:3] == ["user_id", "item_id", "history_length"]
    assert frame.height == document["num_users"] == 60
    assert frame["MRR"].mean() == pytest.approx(document["metrics"]["MRR"])
    first = frame.row(0, named=True)
    target = run.dataset.item_ids[int(run.dataset.targets("test")[0])]
    assert (first["user_id"], first["item_id"]) == ("u0000", target)


def test_quiet_eval_is_silent(run, capsys):
    assert call(capsys, "eval", run.path, "--quiet", "--no-baselines") == (0, "", "")


def test_recommend_for_a_user(run, capsys):
    code, out, _ = call(capsys, "recommend", run.path, "--user", "u0002", "-k", "3", "--json")
    found = json.loads(out)
    assert code == 0
    assert [row["rank"] for row in found["recommendations"]] == [1, 2, 3]
    history = run.dataset.history(2, "all")
    assert found["history_length"] == len(history)
    seen = {run.dataset.item_ids[int(item)] for item in history}
    assert not seen & {row["item_id"] for row in found["recommendations"]}
    _, shown, _ = call(capsys, "recommend", run.path, "--user", "u0002", "-k", "3")
    for row in found["recommendations"]:
        assert row["title"] in shown


@pytest.mark.parametrize(
    "words", ["eval --no-baselines", "recommend --user u0002", "explain --user u0002", "report"]
)
def test_threads_are_those_asked_for(run, capsys, tmp_path, monkeypatch, words):
    asked = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    command, *others = words.split()
    outs = [] if command in ("eval", "recommend") else ["--out", tmp_path / "out"]
    code, _, err = call(capsys, command, run.path, *others, *outs, "--threads", 3, "--quiet")
    assert (code, asked) == (0, [3]), err
    assert call(capsys, command, run.path, *others, "--threads", 0)[0] == 2


def test_files_of_explanations_have_names_of_their_own():
    same = ["a", "u_1-B", "7", "x" * 100]
    assert [file_name(name) for name in same] == same
    others = ["a/b", "a b", "a_b", "..", ".", "ä" * 300, "ö" * 300, "x" * 101, "x" * 102]
    names = [file_name(name) for name in others]
    assert len(set(names)) == len(others)
    assert names[0] == "a_b-c14cddc033"
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,111}", name) for name in names)


@pytest.mark.parametrize("command", ["eval", "recommend", "explain", "report"])
def test_a_device_that_is_not_there_gets_one_line(run, capsys, command):
    code, out, err = call(capsys, command, run.path, "--device", "cuda:99")
    assert (code, out) == (2, "")
    assert err.startswith("mfgan: device must be one torch has, got 'cuda:99': ")
    assert err.count("\n") == 1


def test_recommend_for_a_session_with_reasons(run, capsys):
    arguments = ("recommend", run.path, "--session", "i0001, ?? ,i0003", "--explain", "-k", 2)
    code, out, err = call(capsys, *arguments, "--json")
    assert code == 0
    assert err.strip() == "skipped, not in the catalogue: ??"
    found = json.loads(out)
    assert found["unknown_items"] == ["??"]
    for row in found["recommendations"]:
        assert sum(reason["share"] for reason in row["reasons"]) == pytest.approx(1, abs=1e-5)
        assert set(row["score_parts"]) == {"item itself"}
    _, shown, _ = call(capsys, *arguments)
    assert "judgement" in shown
    first = found["recommendations"][0]["score_parts"]["item itself"]
    assert f"item itself {first:+.2f}" in " ".join(shown.replace("│", " ").split())


@pytest.mark.parametrize(
    ("session", "ids"),
    [
        ("7, 8 ,,9", ["7", "8", "9"]),
        ('"Tea, green",7', ["Tea, green", "7"]),
        ('7, "a ""b"", c"', ["7", 'a "b", c']),
        ('8" pan,7', ['8" pan', "7"]),
        ("7\n8", ["7", "8"]),
        (" , ", []),
    ],
)
def test_a_session_is_a_line_of_ids(session, ids):
    assert ids_of(session) == ids


def test_why_is_what_adds_most():
    values = {"genre": "Drama", "actors": "Ann A, Bob B, " + "Someone Else, " * 5, "year": ""}
    row = {
        "reasons": [{"factor": name, "value": value} for name, value in values.items()],
        "score_parts": {"item itself": 0.2, "genre": -3.0, "actors": 0.96, "year": 1.5},
    }
    assert why(row) == "year +1.50, actors (Ann A, Bob B, Someone Else, …) +0.96"


def test_explain_writes_its_files(run, capsys, tmp_path):
    code, out, _ = call(capsys, "explain", run.path, "--user", "u0001", "-k", "2", "--json")
    assert code == 0
    for kind in ("png", "svg", "json"):
        assert (run.path / "explain" / f"u0001.{kind}").stat().st_size > 0
    assert json.loads(out) == json.loads((run.path / "explain" / "u0001.json").read_text())
    code, out, _ = call(
        capsys, "explain", run.path, "--session", "i0001,i0002", "--out", tmp_path / "a.b"
    )
    assert code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.b.json", "a.b.png", "a.b.svg"]
    for name in ("popularity", "recommendations", "* leads"):
        assert name in out


def test_report_names_its_file(run, capsys, tmp_path):
    out = tmp_path / "page.html"
    code, shown, _ = call(capsys, "report", run.path, "--out", out, "--quiet", "--json")
    assert code == 0
    assert json.loads(shown) == {"report": str(out)}
    assert out.read_text().endswith("</html>\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("eval", "{run}", "--protocol", "sampled"),
            "evaluate: protocol must be full or sampled:n",
        ),
        (("eval", "{run}", "--stage", "adversarail"), "did you mean 'adversarial'?"),
        (("eval", "{run}/none"), "must be a run made by `mfgan train`"),
        (("recommend", "{run}"), "recommend: give one of --user, --session, --all-users and"),
        (("recommend", "{run}", "--user", "a", "--session", "b"), "give one of --user, --session"),
        (("recommend", "{run}", "--user", "nobody"), "user 'nobody' must be in the data set"),
        (
            ("recommend", "{run}", "--session", " , "),
            "must hold an item of the catalogue, got none",
        ),
        (("explain", "{run}"), "explain: give either --user or --session"),
        (("explain", "{run}", "--session", ""), "must hold an item of the catalogue, got none"),
        (("report", "{run}", "--control", "{run}/x"), "must be a run made by `mfgan train`"),
    ],
)
def test_mistakes_get_one_line_and_exit_2(run, capsys, arguments, message):
    code, out, err = call(
        capsys,
        *(part.format(run=run.path) for part in arguments),
    )
    assert code == 2
    assert message in err
    assert err.strip().splitlines()[-1].startswith("mfgan: ")
    assert "Traceback" not in err + out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("recomend",), "mfgan: no such command 'recomend'; did you mean 'recommend'?"),
        (("--bogus",), "mfgan: No such option '--bogus'."),
        (("eval",), "mfgan eval: Missing argument 'RUN'."),
        (("recommend", "run", "-k", "0"), "mfgan recommend: Invalid value for '-k': 0 is not in"),
        (("policy", "trian"), "mfgan policy: No such command 'trian'."),
    ],
)
def test_mistakes_in_the_command_get_one_line_too(capsys, arguments, line):
    code, out, err = call(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith(line)
    assert err.count("\n") == 1


def test_a_reader_that_stops_gets_no_error():
    command = f"{shlex.quote(sys.executable)} -m mfgan | true; echo ${{PIPESTATUS[0]}}"
    ended = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert (ended.stdout.strip(), ended.stderr) == ("1", "")
