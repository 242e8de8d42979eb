"""Session lengths of real users where the data is at hand, of a named made distribution elsewhere."""

import gzip
import os
from pathlib import Path

import numpy as np

_SEQUENCES = {"ml-1m": "ml-1m/sasrec.txt.gz", "games": "amazon/sasrec_Video.txt.gz"}
_REPOSITORY = Path(__file__).parents[2]
# Made lengths where there is no data: the shape of the real ones, not their numbers.
_MADE = {
    "ml-1m": "made: log-normal, median 96, sigma 1, at least 16",
    "games": "made: 2 + geometric of mean 5",
}


def session_lengths(
    dataset: str, max_len: int, num_sessions: int, seed: int = 0
) -> tuple[np.ndarray, str]:
    """Lengths of training inputs, cut to ``max_len``.

    Args:
        dataset: ``"ml-1m"`` or ``"games"``.
        max_len: Longer inputs are cut.
        num_sessions: How many.
        seed: Of the draw.

    Returns:
        ``(num_sessions,)`` int64, and what they were drawn from.
    """
    rng = np.random.default_rng(seed)
    path = _found(dataset)
    if path is not None:
        inputs = np.minimum(input_lengths(path), max_len)
        return rng.choice(inputs, num_sessions, replace=num_sessions > len(inputs)), "real"
    if dataset == "ml-1m":
        drawn = np.maximum(16, rng.lognormal(np.log(96), 1.0, num_sessions))
    else:
        drawn = 2 + rng.geometric(1 / 5, num_sessions)
    return np.minimum(drawn, max_len).astype(np.int64), _MADE[dataset]


def input_lengths(path: Path) -> np.ndarray:
    """How many interactions each user's training input has.

    The last two interactions of a user validate and test, and an input lacks the last of the rest.

    Args:
        path: Gzipped ``user item`` lines.
    """
    with gzip.open(path, "rt") as lines:
        users = np.array([line.split(maxsplit=1)[0] for line in lines], np.int64)
    counts = np.bincount(users)
    counts = counts[counts > 0]
    counts = np.where(counts < 4, counts, counts - 2) - 1
    return counts[counts > 0]


def _found(dataset: str) -> Path | None:
    folders = [os.environ.get("MFGAN_DATA"), _REPOSITORY.parent / "shared" / "data"]
    folders.append(_REPOSITORY / "shared" / "data")
    for folder in folders:
        if folder is not None and (Path(folder) / _SEQUENCES[dataset]).exists():
            return Path(folder) / _SEQUENCES[dataset]
    return None
