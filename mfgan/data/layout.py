"""The files of a prepared directory: their names, and reading and writing one array each."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from mfgan.errors import MfganError
from mfgan.files import read_json

SCHEMA_VERSION = 1
_SHOWN = 60  # letters of what came

MANIFEST = "manifest.json"
ITEM_TABLE = "items.parquet"
USER_TABLE = "users.parquet"
SEQUENCES = "sequences"
FACTORS = "factors"

# Name and dtype of each array under sequences/.
SEQUENCE_ARRAYS: dict[str, np.dtype[Any]] = {
    "items": np.dtype(np.int32),
    "offsets": np.dtype(np.int64),
    "timestamps": np.dtype(np.int64),
    "train_end": np.dtype(np.int64),
    "validation": np.dtype(np.int64),
    "test": np.dtype(np.int64),
}


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest of a prepared directory.

    Args:
        path: The directory.

    Returns:
        The parsed manifest.

    Raises:
        MfganError: There is no prepared data set, a newer version wrote it, or its factors are not
            those that ``write_factor`` describes.
    """
    if not (path / MANIFEST).is_file():
        raise MfganError(
            f"{path}: must be a data set made by `mfgan prepare`, found no {MANIFEST} in it"
        )
    manifest: dict[str, Any] = read_json(path / MANIFEST)
    version = manifest.get("schema_version") if isinstance(manifest, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise MfganError(f"{path / MANIFEST}: schema_version must be 1 or more, got {version!r}")
    if version > SCHEMA_VERSION:
        raise MfganError(
            f"{path}: schema_version must be at most {SCHEMA_VERSION}, got {version}: a newer mfgan"
            " wrote it; upgrade mfgan or prepare the data set again"
        )
    factors = manifest.get("factors")
    if not isinstance(factors, list) or not all(map(_is_factor, factors)):
        raise MfganError(
            f"{path / MANIFEST}: factors must be a list of objects with name, kind and num_values,"
            f" got {textwrap.shorten(repr(factors), _SHOWN, placeholder=' …')}"
        )
    return manifest


def _is_factor(entry: object) -> bool:
    return (
        isinstance(entry, dict)
        and isinstance(entry.get("name"), str)
        and entry.get("kind") in ("categorical", "multi", "dense")
        and isinstance(entry.get("num_values"), int)
    )


def size_of(path: Path, manifest: dict[str, Any], name: str) -> int:
    """A number of rows from the manifest of a prepared directory.

    Raises:
        MfganError: It lacks it, or has a number below 1.
    """
    value = manifest.get(name)
    if not isinstance(value, int) or value < 1:
        raise MfganError(f"{path}: {name} of the manifest must be 1 or more, got {value!r}")
    return value


def write_array(path: Path, array: np.ndarray) -> None:
    """Write one array as ``.npy``, making its directory.

    Raises:
        OSError: The disk is full or not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # ndarray.tofile reports a full disk as a bare count; the file object reports errno.
    with open(path, "wb") as handle:
        array = np.ascontiguousarray(array)
        header = np.lib.format.header_data_from_array_1_0(array)
        np.lib.format.write_array_header_1_0(handle, header)
        handle.write(array.data.cast("B") if array.size else b"")


def read_array(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> np.ndarray:
    """Map one ``.npy`` array into memory, read-only, and check its form.

    Args:
        path: The file.
        dtype: What it must hold.
        shape: Its shape; -1 stands for any size.

    Returns:
        A read-only ``np.ndarray`` over the mapped file.

    Raises:
        MfganError: It is missing, truncated, no array, or of another form.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (ValueError, EOFError, OSError) as error:
        raise MfganError(f"{path}: must be a whole .npy array, got {error}") from None
    fits = array.ndim == len(shape) and all(
        want in (-1, got) for want, got in zip(shape, array.shape, strict=True)
    )
    if array.dtype != dtype or not fits:
        wanted = ", ".join("any" if size < 0 else f"{size:,}" for size in shape)
        raise MfganError(
            f"{path}: must hold {dtype} of shape ({wanted}), got {array.dtype} of shape"
            f" {array.shape}"
        )
    # A plain view: numba and torch treat np.memmap as a type of its own.
    return np.asarray(array)
