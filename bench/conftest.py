"""The ``compare`` fixture: one comparison, timed in turns, printed and kept for the report."""

import pytest
import torch

from bench.common import REPEATS, ratio_line, summary, timed


@pytest.fixture
def compare(benchmark, capsys, record_property):
    """``compare(name, ours, rival, repeats)``: pytest-benchmark times ours, the rival in between.

    Both sides run in turns, so that a change of the machine's pace meets both. Fewer than seven
    repeats need a ``note`` that says why.
    """

    def run(name, ours, rival, repeats=REPEATS, note=None):
        if repeats < 7 and note is None:
            raise ValueError(f"{name}: fewer than 7 repeats must have a note, got {repeats}")
        with capsys.disabled():
            print(f"\n{name}: {repeats} repeats of each side", end="", flush=True)
        seconds = {"ours": [], "rival": []}
        for warm in (ours, rival):
            warm()
        benchmark.pedantic(
            lambda: seconds["ours"].append(timed(ours)),
            setup=lambda: seconds["rival"].append(timed(rival)),
            rounds=repeats,
        )
        row = summary(name, **seconds, note=note)
        benchmark.extra_info.update(row, torch=torch.__version__, threads=torch.get_num_threads())
        record_property("ratio", row)
        with capsys.disabled():
            print("\n" + ratio_line(name, row["ours"]["median"], row["rival"]["median"]))

    return run
