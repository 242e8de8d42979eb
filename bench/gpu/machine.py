"""Which GPU this is, and what runs on it."""

import platform
import shutil
import subprocess

import torch

from mfgan._version import __version__
from mfgan.ops import library


def why_no_gpu(device: str) -> str:
    """Why nothing can be measured on a device; empty where it can."""
    if not device.startswith("cuda") or torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"a CUDA device must be there, found a torch without CUDA ({torch.__version__})"
    return f"a CUDA device must be there, found none (torch {torch.__version__})"


def architecture(device: str) -> str:
    """What CMake calls a device's architecture, for example ``90``."""
    major, minor = torch.cuda.get_device_capability(device)
    return f"{major}{minor}"


def describe(device: str) -> dict[str, object]:
    """Names and versions of a device and of what runs on it."""
    found: dict[str, object] = {
        "device": platform.processor() or platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "mfgan": __version__,
    }
    if device.startswith("cuda"):
        properties = torch.cuda.get_device_properties(device)
        found |= {
            "device": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory": properties.total_memory,
            "cuda": torch.version.cuda,
            "driver": _driver(),
        }
    return found


def kernels(device: str) -> dict[str, bool]:
    """For each operator, whether a compiled kernel serves on a device."""
    kind = device.partition(":")[0]
    names = ("varlen_attention", "factor_score", "dropout_residual", "causal_convolution")
    return {name: kind in library.devices(name) for name in names}


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.split("\n")[0].strip() or "unknown"
