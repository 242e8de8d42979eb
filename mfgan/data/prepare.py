"""From a raw log to a prepared directory, whole or not at all."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from mfgan.console import SILENT, Reporter
from mfgan.data.clean import CleaningRules, Duplicates, Histories, ShortHistories, clean
from mfgan.data.co_occurrence import co_occurrence_factor
from mfgan.data.columns import ITEM_ID
from mfgan.data.dataset import PreparedDataset, count_training
from mfgan.data.factor_rules import build_factors
from mfgan.data.factors import CO_OCCURRENCE, Factor
from mfgan.data.ingest import CodedLog, code_log
from mfgan.data.layout import MANIFEST
from mfgan.data.readers import AttributeRule, SourceFile, consume, read_log
from mfgan.data.split import LEAVE_ONE_OUT, QUANTILES, SplitArrays, SplitKind, SplitRule
from mfgan.data.writer import write_prepared
from mfgan.errors import MfganError
from mfgan.files import atomic_directory, check_replaceable


def prepare(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "table",
    items: str | Path | None = None,
    columns: Mapping[str, str] | None = None,
    k_core: int = 5,
    split: SplitKind = "leave-one-out",
    quantiles: tuple[float, float] = QUANTILES,
    times: tuple[int, int] | None = None,
    max_len: int | None = None,
    factors: Sequence[str] | None = None,
    min_count: int = 1,
    co_occurrence: int | None = None,
    duplicates: Duplicates = "drop",
    short_histories: ShortHistories = "error",
    max_bad_lines: int = 0,
    name: str | None = None,
    overwrite: bool = False,
    reporter: Reporter = SILENT,
) -> PreparedDataset:
    """Clean a log, number its users and items, make factors, split it, and write it all down.

    Args:
        source: The log: a file, a folder, or for ``table`` also an address.
        out: The directory to make.
        format: One of `mfgan.data.readers.FORMATS`.
        items: A table of attributes to join by item id.
        columns: Ours to the source's: ``{"user_id": "visitor"}``.
        k_core: Each user and item keeps at least so many interactions; 1 switches it off.
        split: ``"leave-one-out"``: the last interaction of a user tests, the one before validates;
            ``"temporal"``: two times cut all histories.
        quantiles: Temporal: the shares of the interactions before the two times.
        times: Temporal: the two times themselves, milliseconds since 1970 UTC.
        max_len: Each user keeps the last so many interactions; None for all.
        factors: Attributes to make factors of; all where None. The item's id and its popularity in
            the training part are always there.
        min_count: Values of fewer items are pooled into one.
        co_occurrence: Also make the dense factor ``co_occurrence``, vectors of this width by which
            users have which items in common, from the training part.
        duplicates: ``"drop"``: of rows with the same user, item and time (or order) the first
            stays; ``"once"``: a user's first interaction with each item stays; ``"keep"``: all
            stay.
        short_histories: Leave-one-out, users with fewer than three interactions: ``"error"``,
            ``"train"`` on all of theirs, or ``"drop"`` them.
        max_bad_lines: How many records that cannot be read are left out before it is an error.
        name: What the data set is called; the directory's name where None.
        overwrite: Replace a data set that is there.
        reporter: Where progress is shown.

    Returns:
        The data set, opened.

    Raises:
        MfganError: An option or the log is wrong, nothing is left of it, or it cannot be written.

    Example:
        >>> import tempfile, pathlib
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> rows = [f"{user},{item}" for user in "ab" for item in "xyz"]
        >>> _ = (folder / "log.csv").write_text("\\n".join(["user_id,item_id", *rows]))
        >>> dataset = prepare(folder / "log.csv", folder / "out", k_core=2)
        >>> dataset.num_users, dataset.num_items
        (2, 3)
    """
    out = Path(out)
    check_replaceable(out, overwrite=overwrite, marker=MANIFEST, sources=[source, items])
    split_rule = SplitRule(split, quantiles, times)
    rules = CleaningRules(k_core, duplicates, short_histories, split == LEAVE_ONE_OUT, max_len)
    reporter.note(f"reading {source}")
    log = _read(source, format, items, columns, max_bad_lines, reporter)
    histories = clean(log.coded, rules, bad_lines=sum(file.bad_lines for file in log.sources))
    parts, cuts = split_rule.apply(histories.offsets, histories.timestamps)
    table = _item_table(histories.item_ids, log.items)
    counts = count_training(histories.items, histories.offsets, parts.train_end, table.height)
    made = build_factors(table, log.attributes, counts, chosen=factors, min_count=min_count)
    if co_occurrence is not None:
        made.append(_co_occurrence(histories, parts, table.height, co_occurrence, made))
    header = {
        "name": name or out.name,
        "format": format,
        "sources": [asdict(file) for file in log.sources],
        "rules": {
            **rules.described(),
            "split": split,
            "cut_times": cuts,
            "min_count": min_count,
            "co_occurrence": co_occurrence,
        },
        "steps": histories.steps,
        "targets": _targets(histories, parts, counts),
    }
    reporter.note(f"writing {out}")
    _write(out, overwrite, header, histories, parts, table, made)
    _show(header, reporter)
    return PreparedDataset.open(out)


@dataclass
class _Log:
    coded: CodedLog
    items: pl.LazyFrame | None
    attributes: Mapping[str, AttributeRule]
    sources: list[SourceFile]


def _read(
    source: str | Path,
    format: str,
    items: str | Path | None,
    columns: Mapping[str, str] | None,
    max_bad_lines: int,
    reporter: Reporter,
) -> _Log:
    raw = read_log(
        str(source),
        format=format,
        items=None if items is None else str(items),
        columns=columns,
        max_bad_lines=max_bad_lines,
        lazy=True,
        reporter=reporter,
    )
    raw, coded = consume(raw, code_log)
    sources = list(raw.sources)
    if sources[0].rows is None:  # a log that streamed by was not counted before
        sources[0] = replace(sources[0], rows=len(coded.users))
    return _Log(coded, raw.items, raw.attributes, sources)


def _item_table(item_ids: pl.Series, items: pl.LazyFrame | None) -> pl.DataFrame:
    """The catalogue with what is known of each item; item 1 first."""
    catalogue = item_ids.alias(ITEM_ID).to_frame()
    if items is None:
        return catalogue
    return catalogue.lazy().join(items, on=ITEM_ID, how="left", maintain_order="left").collect()


def _co_occurrence(
    histories: Histories,
    parts: SplitArrays,
    num_items: int,
    dim: int,
    others: Sequence[tuple[Factor, str]],
) -> tuple[Factor, str]:
    if CO_OCCURRENCE in [factor.name for factor, _ in others]:
        raise MfganError(
            f"prepare: factors must have different names, got {CO_OCCURRENCE!r} twice; rename the "
            "column of the item table or leave --co-occurrence out"
        )
    made = co_occurrence_factor(
        histories.items, histories.offsets, parts.train_end, num_items, dim=dim
    )
    return made, f"{dim} singular vectors of who had what in the training part"


def _targets(histories: Histories, parts: SplitArrays, counts: np.ndarray) -> dict[str, Any]:
    """How many interactions train, and how many targets there are; new: never met in training."""
    found: dict[str, Any] = {"training_interactions": int(parts.train_end.sum())}
    for name, places in (("validation", parts.validation), ("test", parts.test)):
        users = np.flatnonzero(places >= 0)
        items = histories.items[histories.offsets[users] + places[users]]
        found[name] = {"users": len(users), "new_items": int((counts[items] == 0).sum())}
    return found


def _write(
    out: Path,
    overwrite: bool,
    header: dict[str, Any],
    histories: Histories,
    parts: SplitArrays,
    table: pl.DataFrame,
    factors: list[tuple[Factor, str]],
) -> None:
    try:
        with atomic_directory(out, overwrite=overwrite) as directory:
            write_prepared(
                directory,
                header=header,
                items=histories.items,
                offsets=histories.offsets,
                timestamps=histories.timestamps,
                split=parts,
                user_ids=histories.user_ids,
                item_table=table,
                factors=factors,
            )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise MfganError(f"{out}: could not be written: {error}") from None


def _show(header: dict[str, Any], reporter: Reporter) -> None:
    names = ("users", "items", "interactions", "dropped")
    rows = [
        [
            step["step"],
            *(f"{step[name]:,}" for name in names),
            step["why"] if step["dropped"] else "",
        ]
        for step in header["steps"]
    ]
    reporter.table("What each step kept", ["step", *names, "because"], rows)
    found = header["targets"]
    reporter.note(
        f"split: {found['training_interactions']:,} interactions train,"
        f" {found['validation']['users']:,} users validate, {found['test']['users']:,} test"
    )
