"""A module's command line in a process of its own, as a user starts it."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run_module(module, *arguments, status=0):
    """What ``python -m MODULE ARGUMENTS`` printed; it must have ended with ``status``."""
    words = map(str, arguments)
    run = subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == status, run.stderr
    return run
