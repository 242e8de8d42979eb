"""Parts of a run, each a process of its own with a time of its own: none can take another's down."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bench.gpu.cases import LOST

_MOST_STARTS = 6
_REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Part:
    """A part of a run.

    Args:
        name: Unique in the run.
        command: What it runs; None where it cannot be run here, ``why`` then says so.
        seconds: Its time at most.
        least: Time that the parts before it leave for it.
        environment: Set for its process, beside what is set already.
        needs: Names of parts without which it makes no sense.
        why: Why there is no command.
    """

    name: str
    command: Sequence[str] | None
    seconds: float
    least: float = 0.0
    environment: Mapping[str, str] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a part ended: ``ok``, ``failed``, ``cut`` (out of time) or ``skipped``, and its last word."""

    name: str
    status: str
    seconds: float
    detail: str

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)

    def line(self) -> str:
        """For people."""
        return f"{self.name}: {self.status}, {self.seconds:.0f} s: {self.detail}"


def time_of(part: Part, later: Sequence[Part], left: float) -> float:
    """Seconds that a part may take: its own, or what is left less what later ones are to have.

    Where the least of all is more than is left, everybody gets a share of it.
    """
    kept = sum(other.least for other in later)
    if left < part.least + kept:
        return left * part.least / (part.least + kept)
    return min(part.seconds, left - kept)


def run_part(part: Part, seconds: float, log: Path, done: Mapping[str, Outcome]) -> Outcome:
    """Run a part to its end or to the end of its time.

    A part whose GPU context broke, or whose process crashed, is started anew and goes on.

    Args:
        part: What to run.
        seconds: Its time.
        log: Where its output is appended.
        done: Outcomes of the parts before it.

    Returns:
        How it ended; never an exception for what the part does.
    """
    missing = [name for name in part.needs if name in done and done[name].status != "ok"]
    if part.command is None or missing:
        return Outcome(part.name, "skipped", 0.0, part.why or f"{missing[0]} did not end well")
    if seconds <= 0:
        return Outcome(part.name, "cut", 0.0, "no time was left for it")
    begun = time.monotonic()
    status, start = "failed", log.stat().st_size if log.exists() else 0
    for _ in range(_MOST_STARTS):
        left = seconds - (time.monotonic() - begun)
        ended = _run_once(part, max(0.1, left), log)
        if ended is None:
            status = "cut"
            break
        status = "ok" if ended == 0 else "failed"
        if ended != LOST and ended >= 0:
            break
    return Outcome(part.name, status, time.monotonic() - begun, _last_line(log, start))


def _run_once(part: Part, seconds: float, log: Path) -> int | None:
    """The process's exit status, negative for a signal; None where it ran out of time."""
    assert part.command is not None
    with open(log, "ab") as output:
        output.write(f"\n===== {part.name}: {' '.join(part.command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            list(part.command),
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **part.environment},
            start_new_session=True,
            cwd=_REPOSITORY,
        )
        try:
            return process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        finally:
            # Compilers and test workers that the part started go with it.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _last_line(log: Path, start: int) -> str:
    with open(log, "rb") as handle:
        handle.seek(start)
        text = handle.read().decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip(" =")]
    spoken = [line for line in lines if not line.startswith("=====")]
    return spoken[-1].strip("= ")[:200] if spoken else "said nothing"
