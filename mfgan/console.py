"""What a person sees while work goes on: bars on a terminal, plain lines elsewhere, or nothing."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

_LINE_INTERVAL = 10.0  # seconds between the plain lines of one task


class Task:
    """A piece of work with a known size; the silent one does nothing."""

    def advance(self, amount: int = 1, status: str = "") -> None:
        """Say that ``amount`` more units are done; ``status`` is a short text beside the bar."""


class _LineTask(Task):
    def __init__(self, reporter: "Reporter", title: str, total: int) -> None:
        self._reporter, self._title, self._total = reporter, title, total
        self._done, self._last = 0, time.monotonic()

    def advance(self, amount: int = 1, status: str = "") -> None:
        self._done += amount
        now = time.monotonic()
        if now - self._last >= _LINE_INTERVAL or self._done == self._total:
            self._last = now
            self._reporter.note(f"{self._title}: {self._done}/{self._total} {status}".rstrip())


class _BarTask(Task):
    def __init__(self, bar: Progress, title: str, total: int) -> None:
        self._bar = bar
        self._id = bar.add_task(escape(title), total=total, status="")

    def advance(self, amount: int = 1, status: str = "") -> None:
        self._bar.update(self._id, advance=amount, status=status)


@dataclass
class Reporter:
    """Where progress goes. Library calls are silent unless they are given one that is not.

    Args:
        quiet: Show nothing at all.
        stderr: Write to standard error, so that standard output stays free for JSON.
    """

    quiet: bool = True
    stderr: bool = False

    def __post_init__(self) -> None:
        self._console = Console(stderr=self.stderr, highlight=False, soft_wrap=True, emoji=False)

    @contextmanager
    def task(self, title: str, total: int) -> Iterator[Task]:
        """Show the progress of ``total`` units of work for as long as the block runs."""
        if self.quiet:
            yield Task()
        elif not self._console.is_terminal:
            yield _LineTask(self, title, total)
        else:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.fields[status]}"),
            )
            with Progress(*columns, console=self._console) as bar:
                yield _BarTask(bar, title, total)

    def note(self, line: str) -> None:
        """Show one line."""
        if not self.quiet:
            self._console.print(line, markup=False)
            (sys.stderr if self.stderr else sys.stdout).flush()

    def table(self, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Show a table; the first column is text, the others are figures."""
        if self.quiet:
            return
        table = Table(title=escape(title), title_justify="left")
        for place, column in enumerate(columns):
            table.add_column(escape(column), justify="left" if place == 0 else "right")
        for row in rows:
            table.add_row(*map(escape, row))
        self._console.print(table)


SILENT = Reporter(quiet=True)
