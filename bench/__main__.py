"""``python -m bench [pytest options]``: run the comparisons, print ratios, write a JSON of them."""

import json
import sys
from datetime import date
from pathlib import Path

import pytest
import torch

from bench.common import processor
from mfgan._version import __version__

HERE = Path(__file__).parent


class _Rows:
    """Collects what the comparisons put down."""

    def __init__(self) -> None:
        self.rows: list[object] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            self.rows += [value for name, value in report.user_properties if name == "ratio"]


def main(arguments: list[str]) -> int:
    """Run the comparisons that pytest's ``arguments`` choose; 0 when none failed."""
    collected = _Rows()
    options = ["-o", "python_files=bench_*.py", "--benchmark-enable", "--benchmark-quiet", "-q"]
    status = pytest.main([*options, *(arguments or [str(HERE)])], plugins=[collected])
    if collected.rows:
        where = HERE / "results" / f"cpu-{date.today().isoformat()}.json"
        where.parent.mkdir(exist_ok=True)
        machine = {
            "processor": processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "mfgan": __version__,
        }
        where.write_text(json.dumps({"machine": machine, "rows": collected.rows}, indent=1) + "\n")
        print(f"{processor()}: {where}")
    return int(status)


sys.exit(main(sys.argv[1:]))
