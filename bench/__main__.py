"""``python -m bench [pytest options]``: run the comparisons, print ratios, write a JSON of them."""

import sys
from pathlib import Path

import pytest
import torch

from bench.common import has_avx512, processor
from bench.results import Results, results_path
from mfgan._version import __version__

HERE = Path(__file__).parent


class _Rows:
    """Keeps what each comparison puts down as soon as it is over."""

    def __init__(self, results: Results) -> None:
        self._results = results

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call":
            for name, value in report.user_properties:
                if name == "ratio":
                    self._results.add(value)


def main(arguments: list[str]) -> int:
    """Run the comparisons that pytest's ``arguments`` choose; 0 when none failed."""
    machine = {
        "processor": processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "mfgan": __version__,
    }
    print(processor())
    if not has_avx512():
        print("no AVX-512 here: the targets are for two cores of an x86-64 processor that has it")
    results = Results(results_path("cpu"), machine)
    options = ["-o", "python_files=bench_*.py", "--benchmark-enable", "--benchmark-quiet", "-q"]
    if not any((HERE.parent / argument.split("::")[0]).exists() for argument in arguments):
        options.append(str(HERE))
    status = pytest.main([*options, *arguments], plugins=[_Rows(results)])
    if results.added:
        print(f"{results.added} rows added to {results.path}, which holds {len(results.rows)}")
    return int(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
