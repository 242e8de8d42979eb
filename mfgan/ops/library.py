"""The compiled operator libraries: which ones are loaded, and why another is not."""

import os
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

PACKAGE = Path(__file__).resolve().parents[1]
# Bytes of shared memory that a block may have where every kernel fits: on GPUs of sm_80 and sm_90.
# Those of sm_86, sm_89 and sm_120 give 99 KiB.
_ROOMY = 163 << 10


@dataclass(frozen=True)
class LibraryStatus:
    """One compiled library: loaded, or the reason why not."""

    name: str
    loaded: bool
    reason: str
    path: str


def _load(name: str, refused: str) -> LibraryStatus:
    path = PACKAGE / name
    if refused:
        return LibraryStatus(name, False, refused, str(path))
    if not path.exists():
        return LibraryStatus(name, False, "not built", str(path))
    try:
        torch.ops.load_library(str(path))  # type: ignore[no-untyped-call]
    except OSError as error:
        return LibraryStatus(name, False, f"does not load: {error}", str(path))
    return LibraryStatus(name, True, "", str(path))


def _load_all() -> dict[str, LibraryStatus]:
    refused = "MFGAN_NO_EXT=1 is set" if os.environ.get("MFGAN_NO_EXT") == "1" else ""
    cpu = _load("_ops_cpu.so", refused)
    if not refused and torch.version.cuda is None:
        refused = "this torch is built without CUDA"
    if not refused and not cpu.loaded:
        refused = "_ops_cpu.so, which holds the schemas, is not loaded"
    return {"cpu": cpu, "cuda": _load("_ops_cuda.so", refused)}


_LIBRARIES = _load_all()


def status() -> dict[str, LibraryStatus]:
    """What is loaded, by device: ``"cpu"`` and ``"cuda"``.

    Where a library is not loaded, the references in plain PyTorch serve that device, with the same
    results and the same random bits, only slower.
    """
    return dict(_LIBRARIES)


def status_dict() -> dict[str, dict[str, object]]:
    """The same for JSON."""
    return {device: asdict(library) for device, library in _LIBRARIES.items()}


@cache
def devices(op: str) -> frozenset[str]:
    """The device types on which a compiled kernel of ``mfgan::<op>`` serves."""
    loaded = {device for device, library in _LIBRARIES.items() if library.loaded}
    has = torch._C._dispatch_has_kernel_for_dispatch_key
    return frozenset(
        device
        for device in loaded
        if hasattr(torch.ops.mfgan, op) and has(f"mfgan::{op}", device.upper())
    )


def serves(kernels: frozenset[str], x: Tensor, *, large: bool = False) -> bool:
    """Whether a compiled kernel takes an operator's input; otherwise plain PyTorch does.

    Args:
        kernels: ``devices`` of the operator.
        x: The input. On a GPU float64 is left to PyTorch.
        large: Rows so long that in float32 their tiles do not fit into the shared memory of every
            GPU.
    """
    if x.device.type not in kernels or not x.is_cuda:
        return x.device.type in kernels
    if x.dtype == torch.float64:
        return False
    return not (large and x.dtype == torch.float32) or _shared_memory(x.device) >= _ROOMY


@cache
def _shared_memory(device: torch.device) -> int:
    properties = torch.cuda.get_device_properties(device)
    return int(properties.shared_memory_per_block_optin)  # type: ignore[attr-defined]
