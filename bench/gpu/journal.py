"""What the parts of a run leave behind: one record a line, so that a killed part loses nothing."""

import json
import os
from pathlib import Path
from typing import Any

Record = dict[str, Any]


class Journal:
    """Records of a run, in a file that every part appends to.

    Kinds of record: ``fact`` (something about the machine), ``trying`` and ``ready`` (a contender
    before and after its first runs), ``failure`` (a contender that could not run, and why) and
    ``row`` (medians of contenders that ran in turns).

    Args:
        path: The file; made when the first record is added.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, kind: str, **values: Any) -> None:
        """Append a record; it is on disk when this returns."""
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps({"kind": kind, **values}) + "\n")
            handle.flush()
            os.fsync(handle.fileno())

    def records(self, kind: str) -> list[Record]:
        """All records of a kind, in order; a last line that was torn is dropped."""
        found = []
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    found.append(json.loads(line))
                except json.JSONDecodeError:
                    continue
        return [record for record in found if record["kind"] == kind]

    def has_row(self, case: str, round_name: str) -> bool:
        """Whether a case has been timed."""
        rows = self.records("row")
        return any(row["case"] == case and row["round"] == round_name for row in rows)

    def failures(self, case: str) -> dict[str, str]:
        """Contenders of a case that cannot run, by name, and why.

        One that was tried and neither became ready nor failed took its process with it.
        """
        why = {r["contender"]: r["why"] for r in self.records("failure") if r["case"] == case}
        ready = {r["contender"] for r in self.records("ready") if r["case"] == case}
        for record in self.records("trying"):
            if record["case"] == case and record["contender"] not in ready:
                why.setdefault(record["contender"], "the process ended while it ran")
        return why
