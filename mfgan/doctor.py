"""What is installed, which compiled libraries serve, and why another does not."""

import importlib.metadata
import importlib.util
import os
import platform
import re
import sys
from typing import Any

from mfgan._version import __version__

_PACKAGES = ("torch", "numpy", "polars", "pyarrow", "numba", "pydantic", "safetensors")
_EXTRAS = {
    "report": ("matplotlib", "jinja2"),
    "simulate": ("gymnasium",),
    "track": ("tensorboard",),
}
# The instruction sets that the CPU kernels have a version of their own for, widest first.
_LEVELS = {
    "x86-64-v4 (AVX-512)": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3 (AVX2)": {"avx2", "bmi1", "bmi2", "fma"},
}


def examine() -> dict[str, Any]:
    """Look the installation over.

    Returns:
        ``mfgan``, ``python``, ``packages``, ``extras`` (missing packages of each), ``libraries``
        (loaded or why not, and the operators that fall back on plain PyTorch), ``cpu``, ``gpus``;
        ready for JSON.
    """
    import torch

    from mfgan.ops import library

    return {
        "mfgan": __version__,
        "python": platform.python_version(),
        "platform": f"{sys.platform} {platform.machine()}",
        "packages": {name: _version(name) for name in _PACKAGES},
        "extras": {
            extra: [name for name in names if importlib.util.find_spec(name) is None]
            for extra, names in _EXTRAS.items()
        },
        "libraries": library.status_dict(),
        "native": importlib.util.find_spec("mfgan._native") is not None,
        "cpu": {**_processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> dict[str, str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as handle:
            text = handle.read()
    except OSError:
        text = ""
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE)
    has = set(flags.group(1).split()) if flags else set()
    level = next((level for level, needs in _LEVELS.items() if needs <= has), "portable")
    return {
        "name": name.group(1) if name else platform.processor() or "unknown",
        "kernels": level,
        "bf16": "yes" if "avx512_bf16" in has else "no",
    }
