"""``mfgan doctor`` says what serves and why something else does not."""

import json
import os
import subprocess
import sys

import mfgan


def doctor(*options, **environment):
    run = subprocess.run(
        [sys.executable, "-m", "mfgan", "doctor", *options],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    return run.stdout


def test_json_names_every_part():
    found = json.loads(doctor("--json"))
    assert found["mfgan"] == mfgan.__version__
    assert found["packages"]["torch"]
    assert set(found["libraries"]) == {"cpu", "cuda"}
    assert found["cpu"]["cores"] == os.cpu_count()


def test_without_extensions_the_reason_is_said():
    text = doctor(MFGAN_NO_EXT="1")
    assert "cpu kernels    plain PyTorch serves; _ops_cpu.so: MFGAN_NO_EXT=1 is set" in text
