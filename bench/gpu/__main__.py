"""``python -m bench.gpu --out DIR``: build, test and measure on this machine's GPU in nine minutes."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from bench.gpu.attention import attention_cases
from bench.gpu.build import build_command, sanitizer_command, test_command
from bench.gpu.cases import run_cases
from bench.gpu.ceilings import measure_ceilings
from bench.gpu.clock import clock_of
from bench.gpu.journal import Journal
from bench.gpu.machine import architecture, describe, why_no_gpu
from bench.gpu.parts import Part, run_part, time_of
from bench.gpu.report import make_report, table, write_json
from bench.gpu.score import score_cases
from bench.gpu.steps import step_cases

_MEASURED = {"attention": attention_cases, "factor_score": score_cases, "steps": step_cases}
_STOP_EARLY = 0.9  # share of its time after which a part begins no case


def main(arguments: Sequence[str]) -> int:
    """Run all parts, or measure the one that ``--part`` names.

    Returns:
        0; 1 where a part failed, 2 where there is no GPU.
    """
    options = _options(arguments)
    if reason := why_no_gpu(options.device):
        print(f"bench.gpu: {reason}; --dry-run tries the same on the CPU", file=sys.stderr)
        return 2
    options.out = options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        return _measure(options)
    return _run_all(options)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--seconds", type=float, default=525.0, help="for everything together")
    parser.add_argument("--only", action="append", metavar="PART", help="this part; repeatable")
    parser.add_argument("--dry-run", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--part", choices=["ceilings", *_MEASURED], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.device = "cpu" if options.dry_run else "cuda"
    return options


def _measure(options: argparse.Namespace) -> int:
    """What the process of one measured part does."""
    device = torch.device(options.device)
    clock, journal = clock_of(device), Journal(options.out / "rows.jsonl")
    if options.part == "ceilings":
        measure_ceilings(clock, journal, small=options.dry_run)
        return 0
    cases = _MEASURED[options.part](device, small=options.dry_run)
    run_cases(cases, clock, journal, seconds=_STOP_EARLY * options.seconds)
    print(f"{len(cases)} cases")
    return 0


def _run_all(options: argparse.Namespace) -> int:
    begun, outcomes = time.monotonic(), []
    journal = Journal(options.out / "rows.jsonl")
    journal.path.unlink(missing_ok=True)
    machine = describe(options.device)
    if options.dry_run:
        machine["sizes"] = "tiny: a trial run, whose times say nothing"
    parts = [part for part in _parts(options) if not options.only or part.name in options.only]
    for place, part in enumerate(parts):
        left = options.seconds - (time.monotonic() - begun)
        seconds = time_of(part, parts[place + 1 :], left)
        if part.name in _MEASURED:
            part = _with_seconds(part, seconds)
        done = {outcome.name: outcome for outcome in outcomes}
        outcomes.append(run_part(part, seconds, options.out / "log.txt", done))
        print(outcomes[-1].line(), flush=True)
        write_json(make_report(machine, journal, outcomes), options.out / "gpu.json")
    text = table(make_report(machine, journal, outcomes))
    (options.out / "table.txt").write_text(text + "\n", encoding="utf-8")
    print("\n" + text)
    return int(any(outcome.status == "failed" for outcome in outcomes))


def _with_seconds(part: Part, seconds: float) -> Part:
    """The part told how long it has, so that it stops before it is stopped."""
    command = [*(part.command or ()), "--seconds", f"{max(0.0, seconds):.0f}"]
    return Part(part.name, command, part.seconds, part.least, part.environment, part.needs)


def _parts(options: argparse.Namespace) -> list[Part]:
    worker = [sys.executable, "-m", "bench.gpu", "--out", str(options.out)]
    worker += ["--dry-run"] if options.dry_run else []

    def measured(name: str, seconds: float, least: float) -> Part:
        return Part(name, [*worker, "--part", name], seconds, least, needs=("build",))

    measuring = [
        Part("ceilings", [*worker, "--part", "ceilings"], 30, 12),
        measured("attention", 150, 80),
        measured("factor_score", 80, 45),
        measured("steps", 50, 25),
    ]
    return [*([] if options.dry_run else _proving(options.device)), *measuring]


def _proving(device: str) -> list[Part]:
    command, environment = build_command(architecture(device))
    proving = [
        Part("build", command, 200, 60, environment),
        Part("tests", test_command(device), 120, 60, needs=("build",)),
    ]
    for tool in ("memcheck", "racecheck"):
        sanitizer = sanitizer_command(tool)
        command, environment = sanitizer or (None, {})
        why = "" if sanitizer else "compute-sanitizer is not installed"
        proving.append(Part(tool, command, 50, 15, environment, ("build",), why))
    return proving


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
