"""The ``compare`` fixture: one comparison, timed in turns, printed and kept for the report."""

import pytest
import torch

from bench.common import REPEATS, ratio_line, summary, timed


@pytest.fixture
def compare(benchmark, capsys, record_property):
    """``compare(name, ours, rival, repeats)``: pytest-benchmark times ours, the rival in between.

    Both sides run in turns, so that a change of the machine's pace meets both.
    """

    def run(name, ours, rival, repeats=REPEATS):
        seconds = {"ours": [], "rival": []}
        for warm in (ours, rival):
            warm()
        benchmark.pedantic(
            lambda: seconds["ours"].append(timed(ours)),
            setup=lambda: seconds["rival"].append(timed(rival)),
            rounds=repeats,
        )
        row = summary(name, **seconds)
        benchmark.extra_info.update(row, torch=torch.__version__, threads=torch.get_num_threads())
        record_property("ratio", row)
        with capsys.disabled():
            print("\n" + ratio_line(name, row["ours"]["median"], row["rival"]["median"]))

    return run
