"""``mfgan recommend`` for many histories at once, into a file."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mfgan.errors import MfganError

if TYPE_CHECKING:
    import polars as pl

    from mfgan.console import Reporter
    from mfgan.explain import Explainer
    from mfgan.recommend import Recommender, Session

_NAMED = 5  # of what is skipped


def recommend_many(
    recommender: "Recommender",
    explainer: "Explainer | None",
    sessions: Path | None,
    out: Path,
    *,
    count: int,
    reporter: "Reporter",
) -> dict[str, Any]:
    """Write a row an item for every user of the data set, or every session of a table.

    Args:
        recommender: What recommends.
        explainer: Adds the reasons to each row, where there is one.
        sessions: A table with the columns ``session`` and ``item_id`` in chronological order; every
            user where None.
        out: The Parquet file, whole or not at all.
        count: Items for each history.
        reporter: Shows the progress and names what is skipped.

    Returns:
        ``file``, ``histories``, ``rows``, and ``skipped``: sessions without a known item.

    Raises:
        MfganError: The table cannot be read, or holds no session with a known item.
    """
    import polars as pl

    from mfgan.data.columns import ITEM_IDX, USER_ID
    from mfgan.files import atomic_file
    from mfgan.recommend import SESSION

    if sessions is None:
        histories, skipped = _users(recommender), list[str]()
    else:
        histories, skipped = _sessions(recommender, sessions, reporter)
    parts = []
    with reporter.task("recommend", len(histories)) as task:
        for block in recommender.blocks(histories):
            part = recommender.rank(block, k=count)
            parts.append(part if explainer is None else explainer.reasons(block, part))
            task.advance(len(block))
    table = pl.concat(parts).drop(ITEM_IDX)
    if sessions is None:
        table = table.rename({SESSION: USER_ID})
    with atomic_file(out) as handle:
        table.write_parquet(handle)
    reporter.note(f"{out}: {table.height:,} items for {len(histories):,} histories")
    return {
        "file": str(out),
        "histories": len(histories),
        "rows": table.height,
        "skipped": skipped,
    }


def _users(recommender: "Recommender") -> "list[Session]":
    from mfgan.recommend import Session

    dataset = recommender.dataset
    return [
        Session(name, dataset.history(user, "all")) for user, name in enumerate(dataset.user_ids)
    ]


def _sessions(
    recommender: "Recommender", path: Path, reporter: "Reporter"
) -> "tuple[list[Session], list[str]]":
    from mfgan.recommend import read_sessions

    found, skipped, unknown = [], [], set[str]()
    for name, items in read_sessions(_read(path)):
        session = recommender.known(items, name=name)
        unknown |= set(session.unknown)
        if len(session.items):
            found.append(session)
        else:
            skipped.append(name)
    if not found:
        raise MfganError(f"recommend: {path} must hold a session with a known item, found none")
    for what, names in (("items not in the catalogue", sorted(unknown)), ("sessions", skipped)):
        if names:
            more = ", …" if len(names) > _NAMED else ""
            shown = ", ".join(names[:_NAMED]) + more
            reporter.note(f"skipped {len(names):,} {what}: {shown}")
    return found, skipped


def _read(path: Path) -> "pl.DataFrame":
    from mfgan.data.readers.raw_log import Request
    from mfgan.data.readers.table import whole_table

    try:
        frame, _ = whole_table(Request(str(path), "table"), str(path))
    except MfganError as error:
        raise MfganError(f"recommend: {str(error).removeprefix('prepare: ')}") from None
    return frame
