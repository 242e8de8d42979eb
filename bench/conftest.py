"""The ``compare`` fixture: one comparison, timed in turns, printed and kept for the report."""

from statistics import mean, median

import pytest
import torch

from bench.common import REPEATS, ratio_line, runs_a_round, summary, timed


@pytest.fixture
def compare(benchmark, capsys, record_property):
    """``compare(name, ours, rival, repeats)``: pytest-benchmark times ours, the rival in between.

    Both sides run in turns, so that a change of the machine's pace meets both. A round lasts at
    least ``LEAST_ROUND``: a side that is done sooner runs several times, as in a loop of batches,
    and counts by the mean. What the first of these runs takes, right after the other side, is
    printed and kept as well. Fewer than seven repeats need a ``note`` that says why.
    """

    def run(name, ours, rival, repeats=REPEATS, note=None):
        if repeats < 7 and note is None:
            raise ValueError(f"{name}: fewer than 7 repeats must have a note, got {repeats}")
        with capsys.disabled():
            print(f"\n{name}: {repeats} repeats of each side", end="", flush=True)
        seconds, first = ({"ours": [], "rival": []} for _ in range(2))
        times = {"ours": runs_a_round(ours), "rival": runs_a_round(rival)}

        def take(side, function):
            runs = timed(function, times[side])
            seconds[side].append(mean(runs))
            first[side].append(runs[0])

        benchmark.pedantic(
            lambda: take("ours", ours), setup=lambda: take("rival", rival), rounds=repeats
        )
        row = summary(name, **seconds, note=note)
        row |= {"runs": times, "first": {side: median(runs) for side, runs in first.items()}}
        benchmark.extra_info.update(row, torch=torch.__version__, threads=torch.get_num_threads())
        record_property("ratio", row)
        with capsys.disabled():
            print("\n" + ratio_line(name, row["ours"]["median"], row["rival"]["median"]))
            if max(times.values()) > 1:
                print("first of the runs of a round: " + ratio_line(name, **row["first"])[6:])

    return run
