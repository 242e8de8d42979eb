"""Small made displays, in the authors' text format and prepared."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mfgan.data.displays import DisplayDataset, prepare_displays

HEADER = (
    "SessionId\tTime\tItemId\tis_click\traw_index\tsession_new_index\titem_new_index\ttr_val_tst"
)
Display = tuple[int, int, Sequence[int], int | None, int]  # user, time, items, click, split tag


def lines_of(displays: Sequence[Display]) -> list[str]:
    """A row an item, the clicked one last, as in the authors' files."""
    rows = []
    for user, time, items, click, tag in displays:
        ordered = [*(item for item in items if item != click), *([] if click is None else [click])]
        rows += [
            f"u{user}\t{time}\ti{item}\t{int(item == click)}\t0\t{user}\t{item}\t{tag}"
            for item in ordered
        ]
    return rows


def write_authors(path: Path, rows: Sequence[str]) -> Path:
    """A file in the authors' format."""
    path.write_text("\n".join([HEADER, *rows]) + "\n")
    return path


def made_events(users: int = 30, items: int = 12, seed: int = 0) -> list[Display]:
    """Users of one to six displays each, who like low item numbers; some click nothing."""
    rng = np.random.default_rng(seed)
    displays: list[Display] = []
    time = 0
    for user in range(users):
        for _ in range(rng.integers(1, 7)):
            shown = rng.choice(items, rng.integers(1, 6), replace=False).tolist()
            click = min(shown) if rng.random() < 0.8 else None
            displays.append((user, time, shown, click, user % 3))
            time += 1
    return displays


def make(folder: Path, displays: Sequence[Display] | None = None) -> DisplayDataset:
    """Prepared displays in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = lines_of(made_events() if displays is None else displays)
    source = write_authors(folder / "log.txt", rows)
    return prepare_displays(source, folder / "prepared", format="displays-authors")
