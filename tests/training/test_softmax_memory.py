"""The full softmax never holds the logits of a batch."""

import subprocess
import sys

import pytest

# A fresh process: its peak is this one call's, and what the process before held is not there. A small call first loads what torch loads late.
PROGRAM = """
import re
from pathlib import Path
import torch
from mfgan.training.full_softmax import softmax_cross_entropy

def megabytes(name):
    return int(re.search(name + r":\\s*(\\d+)", Path("/proc/self/status").read_text()).group(1)) / 1024

def step(rows):
    hidden = torch.randn(rows, 50, requires_grad=True)
    table = torch.randn(3417, 50, requires_grad=True)
    before = megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    softmax_cross_entropy(hidden, table, torch.randint(1, 3417, (rows,))).backward()
    return megabytes("VmHWM") - before

torch.set_num_threads(2)
step(64)
print(step(25_600))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_all_items_of_movielens_take_at_most_120_megabytes():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # All logits and their gradient would be 700 megabytes.
    assert 0 < float(done.stdout) <= 120
