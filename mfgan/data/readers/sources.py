"""Files as a reader wants them: found, opened, unpacked, and accounted for."""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from mfgan.data.readers.raw_log import SourceFile
from mfgan.errors import MfganError
from mfgan.files import sha256_of

CHUNK_BYTES = 8 << 20  # unpacked text that is held at once where a file is read in pieces
_CODECS = {".gz": "gzip", ".zst": "zstd"}
_MAGIC = {".gz": b"\x1f\x8b", ".zst": b"\x28\xb5\x2f\xfd"}


def is_remote(source: str) -> bool:
    """Whether ``source`` is an address rather than a path."""
    return "://" in source


def existing(source: str | Path) -> Path:
    """The path of something that is there and may be read.

    Raises:
        MfganError: It is missing or may not be read.
    """
    path = Path(source)
    if not path.exists():
        raise MfganError(f"prepare: {path} must exist, found nothing")
    if not os.access(path, os.R_OK):
        raise MfganError(f"prepare: {path} must be readable, got permission denied")
    return path


def existing_file(source: str | Path) -> Path:
    """The path of a readable file.

    Raises:
        MfganError: It is missing, may not be read, or is a folder.
    """
    path = existing(source)
    if path.is_dir():
        raise MfganError(f"prepare: {path} must be a file, got a folder")
    return path


def find(folder: Path, *names: str) -> Path | None:
    """The first of ``names`` in ``folder``, each as it stands or packed."""
    for name in names:
        for suffix in ("", *_CODECS):
            if (path := folder / f"{name}{suffix}").is_file():
                return path
    return None


def find_log(request_format: str, source: str, *names: str) -> Path:
    """The log itself: ``source`` where that is a file, else the first of ``names`` in it.

    Raises:
        MfganError: The folder holds none of them, or ``source`` is an address.
    """
    if is_remote(source):
        raise MfganError(
            f"prepare: --format {request_format} must have a local path, got {source}; "
            "addresses are read by --format table"
        )
    path = existing(source)
    if path.is_file():
        return path
    found = find(path, *names)
    if found is None:
        raise MfganError(
            f"prepare: {path} must hold {' or '.join(names)} for --format {request_format}, "
            f"found {_listing(path)}"
        )
    return existing(found)


def _listing(folder: Path) -> str:
    names = sorted(entry.name for entry in folder.iterdir())
    if not names:
        return "an empty folder"
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def codec(path: str | Path) -> str | None:
    """``gzip``, ``zstd`` or nothing, by the last suffix of the name."""
    return _CODECS.get(Path(path).suffix.lower())


def plain_suffix(path: str | Path) -> str:
    """The suffix that tells the format: ``.csv`` of ``log.csv.gz``."""
    path = Path(path)
    return (path.with_suffix("") if path.suffix.lower() in _CODECS else path).suffix.lower()


def open_stream(path: Path) -> pa.NativeFile:
    """Open a file for reading, unpacking it on the way.

    Raises:
        MfganError: It may not be read, or its name promises a packing that it does not have.
    """
    path = existing_file(path)
    kind = codec(path)
    if kind is not None:
        with open(path, "rb") as handle:
            head = handle.read(4)
        if head and not head.startswith(_MAGIC[path.suffix.lower()]):
            raise MfganError(f"prepare: {path.name} must be a {kind} file, got other contents")
        if not head:
            raise MfganError(f"prepare: {path.name} must not be empty, got 0 bytes")
    return pa.input_stream(str(path), compression=kind, buffer_size=1 << 20)


def unpack_error(path: Path, error: Exception) -> MfganError:
    """The line to show where a packed file breaks off or is damaged."""
    kind = codec(path) or "plain"
    if "runcated" in str(error):
        return MfganError(f"prepare: {path.name} must be a whole {kind} file, got a truncated one")
    return MfganError(f"prepare: {path.name} must be a sound {kind} file, got: {error}")


def read_bytes(path: Path) -> bytes:
    """The whole unpacked contents of a file.

    Raises:
        MfganError: It is missing, unreadable, truncated or damaged.
    """
    try:
        with open_stream(path) as stream:
            data: bytes = stream.read()
    except OSError as error:
        raise unpack_error(path, error) from None
    return data


def line_chunks(path: Path, size: int = CHUNK_BYTES) -> Iterator[bytes]:
    """The unpacked contents of a file in pieces of whole lines.

    Args:
        path: The file.
        size: Bytes of a piece; a longer line makes a longer piece.

    Yields:
        Pieces of about ``size`` bytes that end where a line ends.

    Raises:
        MfganError: The file is missing, unreadable, truncated or damaged.
    """
    rest = b""
    try:
        with open_stream(path) as stream:
            while block := stream.read(size):
                end = block.rfind(b"\n") + 1
                if end == 0:
                    rest += block
                    continue
                yield rest + block[:end]
                rest = block[end:]
    except OSError as error:
        raise unpack_error(path, error) from None
    if rest:
        yield rest


def decoded(data: bytes) -> bytes:
    """UTF-8 of text that is UTF-8 or, as GroupLens' older files are, Latin-1."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1").encode("utf-8")
    return data


def account(path: Path, rows: int | None, bad_lines: int = 0) -> SourceFile:
    """What the manifest says of a file that was read."""
    return SourceFile(path.name, sha256_of(path), path.stat().st_size, rows, bad_lines)
