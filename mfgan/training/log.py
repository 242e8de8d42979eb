"""The curves of a run: ``metrics.jsonl`` always, TensorBoard where it is asked for."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mfgan.errors import MfganError
from mfgan.files import atomic_file


class MetricsLog:
    """One JSON object a line, one line an epoch, flushed as it is written.

    A row has ``stage``, ``epoch`` (done so far), ``step``, ``model`` (the optimizer that moved),
    means over the epoch's steps (``loss`` and what the stage reports), ``learning_rate``,
    ``grad_norm``, ``tokens_per_second``, ``elapsed`` in seconds, and where validation took place
    ``validation`` with its figures and whether they are the ``best`` so far. The row of epoch 0
    holds a validation alone.

    Args:
        path: The file.
        tensorboard: Folder of TensorBoard's events, or none.
    """

    def __init__(self, path: Path, *, tensorboard: Path | None = None) -> None:
        self.path = path
        self._writer: Any = None
        if tensorboard is not None:
            try:
                from torch.utils.tensorboard.writer import SummaryWriter
            except ImportError:
                raise MfganError(
                    "config: tensorboard must be installed for tensorboard = true; "
                    "run: pip install 'mfgan[track]'"
                ) from None
            self._writer = SummaryWriter(str(tensorboard))

    def write(self, row: Mapping[str, Any]) -> None:
        """Append a row; it is on disk when this returns."""
        with open(self.path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
        if self._writer is not None:
            figures = {**row, **row.get("validation", {})}
            for name, value in figures.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{row['stage']}/{name}", value, row["step"])

    def rewind(self, stage: str, *, epoch: int, step: int) -> None:
        """Drop the stage's rows behind a checkpoint, which going on will write again.

        Args:
            stage: Whose rows.
            epoch: Epochs that the checkpoint has closed; -1 where there is none.
            step: Steps that it has done.
        """
        if self.path.exists():
            rows = read_rows(self.path)
            kept = [
                row
                for row in rows
                if row["stage"] != stage or (row["step"] <= step and row["epoch"] <= epoch)
            ]
            with atomic_file(self.path) as handle:
                handle.writelines(json.dumps(row).encode() + b"\n" for row in kept)

    def close(self) -> None:
        """Flush TensorBoard's events."""
        if self._writer is not None:
            self._writer.close()


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a ``metrics.jsonl``; a last line that a killed process left torn is dropped.

    Raises:
        MfganError: There is no such file.
    """
    if not path.exists():
        raise MfganError(f"{path}: must exist, found nothing")
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
