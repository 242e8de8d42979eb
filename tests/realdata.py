"""Where the real data sets are: beside the checkout or at ``MFGAN_DATA``, never in the project."""

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("MFGAN_DATA", Path(__file__).parents[2] / "shared" / "data"))


def real_data(name: str) -> Path:
    """The path of a real file or folder; the test is skipped, saying so, where it is missing."""
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"real data {name} is not here; set MFGAN_DATA to its folder")
    return path
