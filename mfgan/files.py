"""Files and directories that are there whole or not at all, and a lock for one that is in use."""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from mfgan.errors import MfganError


def sync_directory(path: Path) -> None:
    """Make the names inside ``path`` survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(path: Path) -> None:
    for parent, _, names in os.walk(path):
        for name in names:
            with open(Path(parent) / name, "rb") as handle:
                os.fsync(handle.fileno())
        sync_directory(Path(parent))


@contextlib.contextmanager
def atomic_directory(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Fill a directory under a temporary name; it takes its own name only when the block ends well.

    Args:
        path: The directory to make.
        overwrite: Replace one that is there.

    Yields:
        The temporary directory, beside ``path``.

    Raises:
        MfganError: ``path`` exists and ``overwrite`` is false.
    """
    if not overwrite:
        _check_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        draft.chmod(0o777 & ~_umask())
        yield draft
        _sync_tree(draft)
        if path.exists():
            # Two renames: a reader finds the old directory, none for an instant, or the new one.
            old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
            path.rename(old / path.name)
            draft.rename(path)
            shutil.rmtree(old)
        else:
            draft.rename(path)
        sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def check_replaceable(
    path: Path, *, overwrite: bool, marker: str, sources: Iterable[str | Path | None]
) -> None:
    """Refuse to put a directory where something would be lost that nobody meant to lose.

    Args:
        path: The directory that is to be made.
        overwrite: Replace one of its kind that is there.
        marker: The file by which one of its kind is known.
        sources: What it is made from.

    Raises:
        MfganError: Something is there that is not to be replaced, or that the sources lie in.
    """
    if not overwrite:
        _check_new(path)
    if not path.exists():
        return
    if not path.is_dir() or (any(path.iterdir()) and not (path / marker).is_file()):
        raise MfganError(
            f"{path}: must be a data set or an empty folder for --overwrite, found other files"
        )
    for source in sources:
        if source is not None and Path(source).resolve().is_relative_to(path.resolve()):
            raise MfganError(f"{path}: must not hold {source}, which --overwrite would delete")


def _check_new(path: Path) -> None:
    if path.exists():
        raise MfganError(f"{path}: must not exist yet, found one; pass --overwrite to replace it")


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file under a temporary name; it replaces ``path`` only when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(draft, 0o666 & ~_umask())
        os.replace(draft, path)
        sync_directory(path.parent)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft)
        raise


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically."""
    with atomic_file(path) as handle:
        handle.write(json.dumps(value, indent=2, ensure_ascii=False).encode() + b"\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MfganError: It is missing or holds no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise MfganError(f"{path}: must exist, found nothing") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MfganError(f"{path}: must be JSON, got {error}") from None


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock of a directory, so that two processes never write into it at once.

    Raises:
        MfganError: Another process holds it.
    """
    path.mkdir(parents=True, exist_ok=True)
    with open(path / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise MfganError(f"{path}: is in use by another mfgan process") from None
        yield


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
