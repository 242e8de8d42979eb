"""Time of one run on a GPU or on the CPU, and several runs in turns."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from weakref import WeakKeyDictionary

import torch

Run = Callable[[], object]
_FLUSHED_BYTES = 1 << 28  # several times the second-level cache of any GPU there is
_CYCLES_A_SECOND = 2e9  # at most: a wait that ends too early would show the host's pace


class CpuClock:
    """Wall-clock seconds of a run."""

    device = torch.device("cpu")

    def seconds(self, run: Run) -> float:
        """Seconds of one run."""
        start = time.perf_counter()
        run()
        return time.perf_counter() - start

    def finish(self) -> None:
        """Wait for all that was begun."""


class CudaClock:
    """Seconds that the GPU spends on a run, by events, with a cold second-level cache.

    The GPU is kept busy while the host enqueues the run, so that what is timed is the kernels and
    not the pace of the host.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._trash = torch.empty(_FLUSHED_BYTES, dtype=torch.uint8, device=device)
        self._host: WeakKeyDictionary[Run, float] = WeakKeyDictionary()

    def seconds(self, run: Run) -> float:
        """Seconds of one run."""
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._trash.zero_()
        torch.cuda._sleep(int(_CYCLES_A_SECOND * 1.5 * self._host_seconds(run)) + 50_000)
        start.record()
        run()
        end.record()
        end.synchronize()
        return start.elapsed_time(end) / 1e3

    def finish(self) -> None:
        """Wait for all that was begun."""
        torch.cuda.synchronize(self.device)

    def _host_seconds(self, run: Run) -> float:
        """How long the host takes to enqueue a run, measured when it is first met."""
        if run not in self._host:
            spans = []
            for _ in range(3):
                self.finish()
                start = time.perf_counter()
                run()
                spans.append(time.perf_counter() - start)
            self.finish()
            self._host[run] = min(median(spans), 0.02)
        return self._host[run]


class WallClock:
    """Seconds from a run's first call to the end of its last kernel, the host's pace included."""

    def __init__(self, clock: "Clock", repeats: int = 5) -> None:
        self.device, self._clock, self._repeats = clock.device, clock, repeats

    def seconds(self, run: Run) -> float:
        """Seconds of one run, the mean of a few in a row."""
        self.finish()
        start = time.perf_counter()
        for _ in range(self._repeats):
            run()
        self.finish()
        return (time.perf_counter() - start) / self._repeats

    def finish(self) -> None:
        """Wait for all that was begun."""
        self._clock.finish()


Clock = CpuClock | CudaClock | WallClock


def clock_of(device: torch.device) -> CpuClock | CudaClock:
    """The clock of a device."""
    return CudaClock(device) if device.type == "cuda" else CpuClock()


def in_turns(
    runs: Mapping[str, Run], clock: Clock, *, seconds: float, fewest: int = 5, most: int = 40
) -> dict[str, list[float]]:
    """Seconds of every run, all of them once a round, each round beginning with another.

    Args:
        runs: What to time, by name; each has run before.
        clock: How.
        seconds: No round begins after so long, but for the ``fewest``.
        fewest: Rounds at least.
        most: Rounds at most.

    Returns:
        As many seconds for every name.
    """
    names, taken = list(runs), {name: [] for name in runs}
    begun = time.perf_counter()
    for turn in range(most):
        if turn >= fewest and time.perf_counter() - begun > seconds:
            break
        first = turn % max(1, len(names))
        for name in names[first:] + names[:first]:
            taken[name].append(clock.seconds(runs[name]))
    return taken
