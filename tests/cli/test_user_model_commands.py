import json

import pytest
from made_displays import lines_of, made_events, write_authors

from mfgan.cli import main
from mfgan.cli.user_model import with_interval
from mfgan.evaluation.seeds import over_seeds

SHORT = ["--set", "shannon.iterations=6", "--set", "validate_every=3", "--threads", "1", "--quiet"]


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in arguments])
    said = capsys.readouterr()
    return stop.value.code, said.out, said.err


@pytest.mark.slow
def test_from_the_log_to_the_policy(tmp_path, capsys):
    log = write_authors(tmp_path / "log.txt", lines_of(made_events()))
    data, a, b, policy = (tmp_path / name for name in ("data", "a", "b", "policy"))
    code, out, _ = run(capsys, "prepare", log, data, "--format", "displays-authors", "--json")
    assert (code, json.loads(out)["num_items"]) == (0, 12)
    code, out, _ = run(capsys, "user-model", "train", data, "--run", a, *SHORT, "--json")
    assert code == 0
    assert set(json.loads(out)["validation"]) == {"log-likelihood", "P@1", "P@2", "ECE"}
    other = ["--users", "held-out", *SHORT]
    assert run(capsys, "user-model", "train", data, "--run", b, *other)[0] == 0
    code, out, _ = run(capsys, "user-model", "eval", a, "--fidelity", "--json")
    assert code == 0
    assert {"random", "popularity", "model"} == set(json.loads(out)["metrics"])
    judge = tmp_path / "judge"
    third = ["--users", "validation", *SHORT]
    assert run(capsys, "user-model", "train", data, "--run", judge, *third)[0] == 0
    small = ["slate=2", "session=fixed:3", "users=4", "steps=6", "warmup=2"]
    sets = [word for one in small for word in ("--set", one)]
    known = ["--user-model", a]
    chosen = ["--validation", judge, "--json"]
    code, out, _ = run(capsys, "policy", "agreement", *known, *chosen, *sets[:4])
    assert (code, json.loads(out)["items"]) == (0, 12)
    code, out, _ = run(capsys, "policy", "train", *known, *chosen, "--out", policy, *sets)
    assert (code, set(json.loads(out)["validation"])) == (0, {"0", "6"})
    code, _, err = run(
        capsys, "policy", "train", *known, "--validation", a, "--out", tmp_path / "none", *sets
    )
    assert (code, "must be of other users" in err) == (2, True)
    code, out, _ = run(
        capsys, "policy", "eval", policy, policy, "--user-model", b, "--num-users", 20,
        "--adapt", 4, "--json",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    assert set(found["recommenders"]) == {"random", "ranker", "greedy", "cascading DQN"}
    assert found["adaptation"][0][0]["displays a user"] == 0
    code, _, err = run(capsys, "policy", "off-policy", data)
    assert (code, err.count("\n")) == (2, 1)
    assert "must have propensities" in err
    code, _, err = run(capsys, "policy", "train", *known, "--out", policy)
    assert (code, "pass --overwrite" in err) == (2, True)


def test_options_of_the_other_kind_are_refused(tmp_path, capsys):
    log = write_authors(tmp_path / "log.txt", lines_of(made_events()))
    arguments = ["prepare", log, tmp_path / "out", "--format"]
    code, _, err = run(capsys, *arguments, "displays-authors", "--k-core", 3)
    assert (code, err) == (
        2,
        "mfgan: prepare: --k-core does not go with --format displays-authors\n",
    )
    code, _, err = run(capsys, *arguments, "table", "--clicks", "split")
    assert (code, err) == (2, "mfgan: prepare: --clicks does not go with --format table\n")


AUTHORS = [(0, 0, [1, 2], 2, 0), (1, 1, [1, 3], 1, 1)]
TRIVAGO = (
    "user_id,session_id,timestamp,step,action_type,reference,impressions\n"
    "u,s,100,1,clickout item,7,7|8\n"
    "u,s,101,2,clickout item,9,7|8\n"
)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ("u0\t5\ti\t0\t0\t0\t\t0", "row 6: display 5 of user 0 must have items, found none"),
        ("u0\t0\ti\t1\t0\t0\t1\t0", "row 6: display 0 of user 0 has a second click, on item 1"),
        ("u2\t5\ti\t0\t0\t2\t1\t7", "row 6: the split tag must be 0 (train), 1 (validation) or 2"),
        (None, "row 3: the click of display s/2 must be on an item shown in it, got 9"),
    ],
)
def test_a_bad_log_gets_one_line_that_names_the_row(tmp_path, capsys, bad, message):
    source, out = tmp_path / "log.csv", tmp_path / "out"
    if bad is None:
        source.write_text(TRIVAGO)
    else:
        write_authors(source, [*lines_of(AUTHORS), bad])
    kind = "displays-trivago" if bad is None else "displays-authors"
    code, said, err = run(capsys, "prepare", source, out, "--format", kind, "--quiet")
    assert (code, said, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"mfgan: log.csv: {message}")
    assert not out.exists()
    code, said, _ = run(
        capsys, "prepare", source, out, "--format", kind, "--drop-bad", "--quiet", "--json"
    )
    assert code == 0
    assert sum(json.loads(said)["rules"]["left_out"].values()) == 1


def test_one_seed_has_no_interval():
    assert with_interval(0.25, over_seeds([0.25])[1]) == "0.250"
    assert with_interval(2.0, over_seeds([1.0, 2.0, 3.0])[1]) == "2.000 [-0.484, 4.484]"
