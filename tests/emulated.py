"""The GPU's operators on the SIMT emulator, as ``mfgan_emu::*`` for CPU tensors."""

import itertools
import os
from pathlib import Path

import pytest
import torch

import mfgan

LIBRARY = Path(mfgan.__file__).parent / "_ops_emu.so"
# Which threads run first, and whether an asynchronous copy happens at its issue or at the wait.
ORDERS = {"forward": 0, "reverse": 1, "random": 2, "skewed": 3}
COPIES = {"lazy": 0, "eager": 1, "random": 2}
SCHEDULES = [
    pytest.param((order, copies), id=f"{order}-{copies}")
    for order, copies in itertools.product(ORDERS, COPIES)
]


def emulated(order="skewed", copies="eager", *, seed=1, os_threads=2):
    """The operators of the emulator, set to a schedule; skips where it is not built.

    ``MFGAN_EMULATOR=ON``, which builds it, also makes its absence a failure.
    """
    if not LIBRARY.exists():
        if os.environ.get("MFGAN_EMULATOR") == "ON":
            pytest.fail(f"{LIBRARY.name} must be there with MFGAN_EMULATOR=ON, found none")
        pytest.skip("the emulator is not built: set MFGAN_EMULATOR=ON and install again")
    torch.ops.load_library(str(LIBRARY))
    torch.ops.mfgan_emu.configure(ORDERS[order], COPIES[copies], seed, os_threads)
    return torch.ops.mfgan_emu
