"""RecTools in a process and an environment of its own: what it is asked, and its answers."""

import json
import os
import subprocess
from pathlib import Path

import pytest

OWN_PYTHON = Path(__file__).parents[1] / ".venv-rectools" / "bin" / "python"


class RecTools:
    """A worker process with one SASRec, which works when it is asked to.

    Args:
        settings: Arguments of ``rectools_worker.py``.
    """

    def __init__(self, **settings):
        python = os.environ.get("MFGAN_RECTOOLS_PYTHON", str(OWN_PYTHON))
        if not Path(python).exists():
            pytest.skip(
                "`make .venv-rectools` makes an environment for RecTools; MFGAN_RECTOOLS_PYTHON"
                " names the Python of another one"
            )
        script = Path(__file__).with_name("rectools_worker.py")
        self._process = subprocess.Popen(
            [python, str(script), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._answer("ready")

    def recommend(self):
        """Seconds of ten recommendations for every user."""
        return float(self._ask("recommend"))

    def add_batch(self, sessions):
        """Prepare a training batch of sessions, lists of item ids as the file writes them."""
        self._ask("batch " + json.dumps(sessions), "ready")

    def train(self):
        """Seconds of one training step on the next of the prepared batches."""
        return float(self._ask("train"))

    def close(self):
        """End the process."""
        with self._process:
            self._process.stdin.close()

    def _ask(self, line, wanted=None):
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._answer(wanted)

    def _answer(self, wanted=None):
        line = self._process.stdout.readline().strip()
        if not line or (wanted and line != wanted):
            raise RuntimeError(f"rectools: must answer {wanted or 'seconds'}, got {line!r}")
        return line
