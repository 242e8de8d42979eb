"""Rows of results in a JSON file: kept as they come, merged by name, never half written."""

import json
from datetime import date
from pathlib import Path
from typing import Any

from mfgan.files import write_json

FOLDER = Path(__file__).parent / "results"


def results_path(kind: str) -> Path:
    """``bench/results/<kind>-<date>.json`` of today."""
    return FOLDER / f"{kind}-{date.today().isoformat()}.json"


class Results:
    """A file of rows, each with its name and the machine that it was measured on.

    What the file held before stays, but for rows that come again.

    Args:
        path: The file; made with the first row.
        machine: Described by the runner; kept with each row, since a file may hold several runs.
    """

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self.path, self.machine = path, machine
        self.added = 0
        self.rows: dict[str, dict[str, Any]] = {}
        if path.exists():
            self.rows = {row["name"]: row for row in json.loads(path.read_text())["rows"]}

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row and write the file anew."""
        self.added += 1
        self.rows[row["name"]] = {**row, "machine": self.machine}
        write_json(self.path, {"rows": list(self.rows.values())})
