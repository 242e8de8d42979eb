"""One case: ours and its rivals on the same input, made, checked, and timed in turns."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch
from torch import Tensor

from bench.gpu.clock import Clock, Run, WallClock, in_turns
from bench.gpu.journal import Journal

OURS = "ours"
LOST = 3  # exit status of a process whose GPU context broke: the parent starts another
_WARM_UPS = 3


@dataclass(frozen=True)
class Contender:
    """A side of a comparison, ready to run.

    Args:
        runs: What is timed, by direction (``forward``, ``forward + backward``, ``step``).
        result: What it computes, for the check; the same shape for all sides. None: unchecked.
    """

    runs: Mapping[str, Run]
    result: Callable[[], Tensor] | None = None


Builder = Callable[[], Contender]


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        name: Unique in the run.
        group: Whose target counts: ``ml-1m``, ``games``, ``score``, or one without a target.
        contenders: Ours (named ``ours``) and the rivals; each is made when its turn comes.
        late: Rivals that compile for long; they have a round of their own when all is done.
        exact: The right result, float64; None where nothing is checked.
        tolerance: How far from it, relative to its largest number, a side may be.
        facts: Sizes for the report.
        wall: Time the host as well.
    """

    name: str
    group: str
    contenders: Mapping[str, Builder]
    late: frozenset[str] = frozenset()
    exact: Callable[[], Tensor] | None = None
    tolerance: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    wall: bool = False


def run_cases(cases: list[Case], clock: Clock, journal: Journal, *, seconds: float) -> None:
    """Time all cases, first without the late rivals, then with these; rows go to the journal.

    Cases that the journal has are not run again, so that a part may be started anew.

    Args:
        cases: What to compare.
        clock: How to time.
        journal: Where records go.
        seconds: After so long no case is begun.
    """
    deadline = time.monotonic() + seconds
    share = seconds / max(1, 2 * len(cases))
    for late in (False, True):
        for case in cases:
            chosen = [OURS, *(n for n in case.contenders if n != OURS and (n in case.late) == late)]
            done = journal.has_row(case.name, _round(late))
            if done or (late and len(chosen) == 1) or time.monotonic() > deadline:
                continue
            run_case(case, chosen, clock, journal, round_name=_round(late), seconds=share)


def _round(late: bool) -> str:
    return "compiled" if late else "first"


def run_case(
    case: Case,
    chosen: list[str],
    clock: Clock,
    journal: Journal,
    *,
    round_name: str,
    seconds: float,
) -> None:
    """Make the chosen sides of a case, check and time them, and add a row.

    Args:
        case: What to compare.
        chosen: Names of the sides, ``ours`` the first.
        clock: How to time.
        journal: Where the records go.
        round_name: Of the row.
        seconds: About how long timing may take.
    """
    exact = None if case.exact is None else case.exact()
    ready, errors = {}, {}
    for name in chosen:
        if name in journal.failures(case.name):
            continue
        journal.add("trying", case=case.name, contender=name)
        try:
            ready[name] = _warmed(case.contenders[name], clock)
            errors[name] = _error(ready[name], exact)
        except Exception as error:
            journal.add("failure", case=case.name, contender=name, why=_reason(error))
            ready.pop(name, None)
            _leave_if_lost(clock)
            continue
        journal.add("ready", case=case.name, contender=name)
    if OURS in ready:
        times = _times(case, ready, clock, seconds)
        wrong = [n for n, error in errors.items() if error is not None and error > case.tolerance]
        journal.add(
            "row",
            case=case.name,
            group=case.group,
            round=round_name,
            facts=dict(case.facts),
            errors=errors,
            wrong=wrong,
            seconds=times,
        )
    ready.clear()
    if clock.device.type == "cuda":
        torch.cuda.empty_cache()


def _warmed(build: Builder, clock: Clock) -> Contender:
    contender = build()
    for run in contender.runs.values():
        for _ in range(_WARM_UPS):
            run()
    clock.finish()
    return contender


def _error(contender: Contender, exact: Tensor | None) -> float | None:
    if exact is None or contender.result is None:
        return None
    got = contender.result().detach().to(exact.device, torch.float64)
    if got.shape != exact.shape:
        raise ValueError(f"result must be {tuple(exact.shape)}, got {tuple(got.shape)}")
    worst = float((got - exact).abs().max() / exact.abs().max().clamp_min(1e-30))
    return worst if worst == worst else float("inf")


def _times(
    case: Case, ready: Mapping[str, Contender], clock: Clock, seconds: float
) -> dict[str, dict[str, dict[str, float]]]:
    """``{direction: {side: {median, low, high, rounds}}}`` in seconds."""
    directions = list(ready[OURS].runs)
    timer = WallClock(clock) if case.wall else clock
    found = {}
    for direction in directions:
        runs = {name: side.runs[direction] for name, side in ready.items()}
        taken = in_turns(runs, timer, seconds=seconds / len(directions))
        found[direction] = {
            name: {
                "median": median(values),
                "low": min(values),
                "high": max(values),
                "rounds": len(values),
            }
            for name, values in taken.items()
        }
    return found


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]


def _leave_if_lost(clock: Clock) -> None:
    """End the process where the GPU no longer answers; what is not done runs in a new one."""
    try:
        clock.finish()
    except Exception:
        sys.exit(LOST)
