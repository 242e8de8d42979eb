"""The GPU benchmark's own parts: budgets, restarts, clocks, verdicts, and a trial run on the CPU."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import attention, report
from bench.gpu.__main__ import main
from bench.gpu.cases import OURS, Case, Contender, run_cases
from bench.gpu.clock import CpuClock, in_turns
from bench.gpu.journal import Journal
from bench.gpu.lengths import session_lengths
from bench.gpu.parts import Outcome, Part, run_part, time_of
from bench.gpu.settings import DISCRIMINATOR, GENERATOR, OPTIMIZER
from mfgan.config import DiscriminatorConfig, load_config

ROOT = Path(__file__).parents[2]


def python(code):
    return [sys.executable, "-c", code]


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.txt"


def test_a_part_that_overruns_is_cut_with_all_that_it_started(log, tmp_path):
    mark = tmp_path / "alive"
    child = f"import time; time.sleep(2); open({str(mark)!r}, 'w')"
    code = f"import subprocess, sys, time; print('begun', flush=True)\nsubprocess.Popen([sys.executable, '-c', {child!r}])\ntime.sleep(60)"
    outcome = run_part(Part("slow", python(code), 1.0), 1.0, log, {})
    assert (outcome.status, outcome.detail) == ("cut", "begun")
    assert outcome.seconds < 10
    time.sleep(2.5)
    assert not mark.exists()


@pytest.mark.parametrize(
    ("code", "status", "detail"),
    [
        ("print('fine'); print()", "ok", "fine"),
        ("print('7 failed'); raise SystemExit(1)", "failed", "7 failed"),
        ("pass", "ok", "said nothing"),
    ],
)
def test_a_part_ends_with_its_last_word(code, status, detail, log):
    outcome = run_part(Part("it", python(code), 30.0), 30.0, log, {})
    assert (outcome.status, outcome.detail) == (status, detail)


@pytest.mark.parametrize("end", ["sys.exit(3)", "os.kill(os.getpid(), 11)"])
def test_a_part_that_lost_the_gpu_or_crashed_goes_on_in_a_new_process(end, log, tmp_path):
    count = tmp_path / "count"
    code = f"import os, sys; p = {str(count)!r}; n = os.path.exists(p); open(p, 'w')\nif not n: {end}\nprint('second')"
    assert run_part(Part("it", python(code), 30.0), 30.0, log, {}).detail == "second"


def test_what_cannot_or_need_not_run_is_skipped_and_says_why(log):
    absent = Part("sanitizer", None, 9.0, why="not installed")
    assert run_part(absent, 9.0, log, {}).line() == "sanitizer: skipped, 0 s: not installed"
    done = {"build": Outcome("build", "failed", 1.0, "")}
    part = Part("tests", python("print(1)"), 9.0, needs=("build",))
    assert run_part(part, 9.0, log, done).detail == "build did not end well"
    assert run_part(Part("late", python("print(1)"), 9.0), 0.0, log, {}).status == "cut"


def test_parts_leave_time_for_each_other():
    later = [Part("b", None, 50.0, 20.0), Part("c", None, 50.0, 10.0)]
    assert time_of(Part("a", None, 60.0, 30.0), later, 500.0) == 60.0
    assert time_of(Part("a", None, 60.0, 30.0), later, 80.0) == 50.0
    assert time_of(Part("a", None, 60.0, 30.0), later, 30.0) == 15.0


def test_runs_take_turns_and_stop_at_their_time():
    order = []

    class Ticking(CpuClock):
        def seconds(self, run):
            run()
            return float(len(order))

    runs = {name: lambda name=name: order.append(name) for name in "abc"}
    taken = in_turns(runs, Ticking(), seconds=0.0, fewest=4, most=9)
    assert "".join(order) == "abcbcacababc"
    assert taken["a"] == [1.0, 6.0, 8.0, 10.0]
    order.clear()
    in_turns(runs, Ticking(), seconds=1e9, fewest=1, most=7)
    assert len(order) == 21


def contender(value, log, name):
    return lambda: Contender({"forward": lambda: log.append(name)}, lambda: torch.tensor([value]))


def failing():
    raise RuntimeError("no such\nthing")


def a_case(log, **contenders):
    made = {OURS: contender(1.0, log, OURS), "right": contender(1.0, log, "right"), **contenders}
    exact = lambda: torch.ones(1, dtype=torch.float64)  # noqa: E731
    return Case("it", "games", made, frozenset({"late"}), exact, 1e-3)


def test_a_case_tells_who_was_wrong_and_who_could_not_run(tmp_path):
    log, journal = [], Journal(tmp_path / "rows.jsonl")
    case = a_case(
        log,
        wrong=contender(1.1, log, "wrong"),
        broken=failing,
        late=contender(1.0, log, "late"),
    )
    run_cases([case], CpuClock(), journal, seconds=5.0)
    first, compiled = journal.records("row")
    assert first["wrong"] == ["wrong"]
    assert set(first["seconds"]["forward"]) == {OURS, "right", "wrong"}
    assert set(compiled["seconds"]["forward"]) == {OURS, "late"}
    assert journal.failures("it") == {"broken": "RuntimeError: no such"}
    assert log.index("late") > log.index("wrong")
    before = len(log)
    run_cases([case], CpuClock(), journal, seconds=5.0)
    assert len(log) == before


def test_a_contender_that_took_its_process_down_is_not_tried_again(tmp_path):
    log, journal = [], Journal(tmp_path / "rows.jsonl")
    journal.add("trying", case="it", contender="right")
    with open(journal.path, "a") as handle:
        handle.write('{"kind": "row", "case"')
    run_cases([a_case(log)], CpuClock(), journal, seconds=5.0)
    assert "right" not in log
    assert journal.failures("it") == {"right": "the process ended while it ran"}


def reported(tmp_path, ours, rivals, *, group="games", wrong=(), facts=()):
    journal = Journal(tmp_path / "rows.jsonl")
    for round_name, times in (("first", rivals), ("compiled", {"slow": 9.0})):
        sides = {name: {"median": seconds} for name, seconds in {OURS: ours, **times}.items()}
        journal.add(
            "row",
            case="it",
            group=group,
            round=round_name,
            facts=dict(facts),
            errors={},
            wrong=list(wrong),
            seconds={"forward": sides},
        )
    document = report.make_report({"device": "made"}, journal, [Outcome("build", "ok", 1.0, "x")])
    return document, document["rows"][0]


@pytest.mark.parametrize(
    ("ours", "group", "wrong", "facts", "verdict", "ratio"),
    [
        (1.0, "games", [], {}, "met", 3.0),
        (1.1, "games", [], {}, "missed", 3.0 / 1.1),
        (1.1, "ml-1m", [], {}, "met", 3.0 / 1.1),
        (1.0, "score", [], {}, "missed", 3.0),
        (3.3, "long", [], {}, "met", 3.0 / 3.3),
        (3.4, "long", [], {}, "missed", 3.0 / 3.4),
        (1.0, "games", ["quick"], {}, "met", 4.0),
        (1.0, "games", [OURS], {}, "WRONG RESULT", None),
        (1.0, "games", [], {"kernel": False}, "no kernel", None),
    ],
)
def test_verdicts(ours, group, wrong, facts, verdict, ratio, tmp_path):
    rivals = {"quick": 3.0, "other": 4.0}
    document, row = reported(tmp_path, ours, rivals, group=group, wrong=wrong, facts=facts)
    assert row["verdict"] == verdict
    assert row["ratio"] == (None if ratio is None else pytest.approx(ratio))
    assert row["rivals"]["slow"]["ratio"] == pytest.approx(9.0 / ours)
    last = report.table(document).splitlines()[-2:]
    assert last[0].startswith("it ")
    assert last[0].endswith(verdict)
    assert last[1].startswith("targets met: ")


def test_made_lengths_are_named_as_such(monkeypatch, tmp_path):
    monkeypatch.setenv("MFGAN_DATA", str(tmp_path))
    monkeypatch.setattr("bench.gpu.lengths._REPOSITORY", tmp_path / "a" / "b")
    for dataset, longest in (("ml-1m", 200), ("games", 50)):
        lengths, source = session_lengths(dataset, longest, 300)
        assert source.startswith("made: ")
        assert lengths.min() >= 1
        assert lengths.max() <= longest
    assert (
        session_lengths("ml-1m", 200, 300)[0].mean()
        > 5 * session_lengths("games", 200, 300)[0].mean()
    )


def test_rivals_get_the_same_sessions():
    sizes = attention._SMALL[0]
    sessions = attention.Sessions(sizes, torch.device("cpu"))
    padded = sessions.padded()[0]
    assert torch.equal(sessions.unpadded(padded), sessions.packed[:, 0])
    case = attention.attention_cases(torch.device("cpu"), small=True)[0]
    exact = case.exact()
    for build in case.contenders.values():
        torch.testing.assert_close(build().result().double(), exact, rtol=0, atol=1e-5)


def test_settings_are_the_tuned_generators_and_the_default_discriminators():
    tuned = load_config("tuned")
    assert tuned.generator.model_dump() == GENERATOR
    assert DiscriminatorConfig().model_dump() == DISCRIMINATOR
    assert tuned.pretrain_generator.optimizer.model_dump() == OPTIMIZER


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_without_a_gpu_it_says_so_in_one_line(tmp_path, capsys):
    assert main(["--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("bench.gpu: a CUDA device must be there, found ")
    assert not (tmp_path / "out").exists()


def test_a_trial_run_on_the_cpu_writes_table_and_json(tmp_path):
    command = [sys.executable, "-m", "bench.gpu", "--out", str(tmp_path), "--dry-run"]
    command += ["--only", "ceilings", "--only", "attention", "--seconds", "500"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + (tmp_path / "log.txt").read_text()
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert [part["status"] for part in document["parts"]] == ["ok", "ok"]
    assert set(document["ceilings"]) == {"copy", "matmul bf16", "matmul tf32", "matmul float32"}
    kinds = {(row["case"], row["direction"]) for row in document["rows"]}
    assert len(kinds) == len(document["rows"]) == 4
    assert all(row["best_rival"] == "padded SDPA" for row in document["rows"])
    table = (tmp_path / "table.txt").read_text().strip()
    assert done.stdout.strip().endswith(table)
    assert table.splitlines()[-1].startswith("targets met: ")
