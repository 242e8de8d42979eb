"""Records that cannot be read: counted, the first few named, and too many of them an error."""

from collections.abc import Iterable

from mfgan.data.readers.raw_log import Request
from mfgan.errors import MfganError

_NAMED = 3


class BadLines:
    """The bad records of one file.

    Args:
        name: The file's name.
        request: Holds the limit and the reporter.
        unit: What a record is called: ``line``, or ``row`` where a record is no line.
    """

    def __init__(self, name: str, request: Request, unit: str = "line") -> None:
        self.name, self.unit = name, unit
        self.count = 0
        self.request = request
        self._first: list[tuple[int, str]] = []

    def add(self, records: Iterable[tuple[int, str]], count: int | None = None) -> None:
        """Count bad records.

        Args:
            records: Number from 1 and reason of the first few at least, ascending.
            count: How many there are in all, where ``records`` holds only the first.
        """
        records = list(records)
        self.count += len(records) if count is None else count
        # Each check of a file adds its own findings, so the smallest numbers may come last.
        self._first = sorted([*self._first, *records])[:_NAMED]

    def settle(self) -> int:
        """Show what was left out.

        Returns:
            The number of bad records.

        Raises:
            MfganError: There are more than the limit allows.
        """
        if self.count == 0:
            return 0
        limit = self.request.max_bad_lines
        if self.count > limit:
            number, reason = self._first[0]
            line = f"prepare: {self.unit} {number:,} of {self.name} is not a record: {reason}"
            line += "".join(f"; {self.unit} {at:,}: {why}" for at, why in self._first[1:])
            if self.count > 1:
                line += f"; {self.count:,} in all, where --max-bad-lines allows {limit:,}"
            raise MfganError(line)
        named = "; ".join(f"{self.unit} {number:,}: {reason}" for number, reason in self._first)
        more = ", …" if self.count > len(self._first) else ""
        self.request.reporter.note(
            f"left out {self.count:,} bad {self.unit}s of {self.name} ({named}{more})"
        )
        return self.count
