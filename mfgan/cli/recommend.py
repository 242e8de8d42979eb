"""``mfgan recommend``: the best next items for a user or a new session."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH

if TYPE_CHECKING:
    import polars as pl

    from mfgan.recommend import Recommender, Session

_LETTERS = 36  # of a factor's value in a table


@click.command("recommend")
@options.run
@options.user
@options.session
@click.option("--all-users", is_flag=True, help="Or every user, into --out.")
@click.option("--sessions", type=PATH, help="Or a table of session and item_id, into --out.")
@click.option("--out", type=PATH, help="Parquet file to write, a row an item.")
@options.count
@click.option("--explain", is_flag=True, help="Say which factors speak for each item.")
@options.stage
@click.option("--with-discriminators", is_flag=True, help="Re-rank by what the discriminators say.")
@options.device
@options.threads
@options.as_json
@click.option("--quiet", is_flag=True, help="Show no progress, name no skipped items.")
def command(
    run: Path,
    user: str | None,
    session: str | None,
    all_users: bool,
    sessions: Path | None,
    out: Path | None,
    count: int,
    explain: bool,
    stage: str | None,
    with_discriminators: bool,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Recommend items that follow the history of a user, or a session never seen before.

    Items of the history are never recommended again. Items that the catalogue lacks are named and
    skipped. The probability is the generator's softmax over all items not in the history.
    """
    import json

    from mfgan.errors import MfganError

    many = all_users or sessions is not None
    if (user is not None) + (session is not None) + all_users + (sessions is not None) != 1:
        raise MfganError("recommend: give one of --user, --session, --all-users and --sessions")
    if many != (out is not None):
        raise MfganError("recommend: give --out with --all-users or --sessions, and only there")
    from mfgan.console import Reporter

    choice: dict[str, Any] = {
        "stage": stage,
        "with_discriminators": with_discriminators,
        "device": device,
    }
    explainer = None
    if explain:
        from mfgan.explain import Explainer

        explainer = Explainer(run, **choice)
        recommender = explainer.recommender
    else:
        from mfgan.recommend import Recommender

        recommender = Recommender(run, **choice)
    if out is not None:
        from mfgan.cli.recommend_many import recommend_many

        reporter = Reporter(quiet=quiet, stderr=as_json)
        found = recommend_many(
            recommender, explainer, sessions, out, count=count, reporter=reporter
        )
        if as_json:
            click.echo(json.dumps(found, ensure_ascii=False))
        return
    history = look_up(recommender, user, session)
    if history.unknown:
        notes = Reporter(quiet=quiet, stderr=True)
        notes.note(f"skipped, not in the catalogue: {', '.join(history.unknown)}")
    table = recommender.rank([history], k=count)
    if explainer is not None:
        table = explainer.reasons([history], table)
    if as_json:
        _print_json(table, history, is_user=user is not None)
    else:
        _print_table(table, history)


def look_up(recommender: "Recommender", user: str | None, session: str | None) -> "Session":
    """The history that the options mean."""
    if user is not None:
        return recommender.user(user)
    return recommender.session(ids_of(session or ""), name="session")


def ids_of(session: str) -> list[str]:
    """A line of a CSV file, so that an id that holds a comma can stand in double quotes."""
    import csv

    names = [
        name.strip()
        for row in csv.reader(session.splitlines(), skipinitialspace=True)
        for name in row
    ]
    return [name for name in names if name]


def _print_json(table: "pl.DataFrame", history: "Session", *, is_user: bool) -> None:
    import json

    from mfgan.data.columns import ITEM_IDX, USER_ID
    from mfgan.recommend import SESSION

    document: dict[str, Any] = {USER_ID: history.name} if is_user else {}
    document |= {
        "history_length": len(history.items),
        "unknown_items": list(history.unknown),
        "recommendations": table.drop(SESSION, ITEM_IDX).to_dicts(),
    }
    click.echo(json.dumps(document, allow_nan=False, ensure_ascii=False))


def _print_table(table: "pl.DataFrame", history: "Session") -> None:
    from mfgan.console import Reporter
    from mfgan.data.columns import ITEM_ID, TITLE
    from mfgan.recommend import PROBABILITY, RANK

    has_titles = bool((table[TITLE] != table[ITEM_ID]).any())
    columns = ["title", "item"] if has_titles else ["item"]
    columns += ["rank", "probability"]
    explained = "reasons" in table.columns
    columns += ["judgement", "why"] if explained else []
    rows = []
    for row in table.rows(named=True):
        cells = [row[TITLE], row[ITEM_ID]] if has_titles else [row[ITEM_ID]]
        cells += [str(row[RANK]), f"{row[PROBABILITY]:.4f}"]
        if explained:
            cells += [f"{row['judgement']:.2f}", why(row)]
        rows.append(cells)
    title = f"{history.name}: {len(history.items)} items so far"
    Reporter(quiet=False).table(title, columns, rows)


def why(row: dict[str, Any]) -> str:
    """The two parts that add most to the score, in words."""
    values = {reason["factor"]: reason["value"] for reason in row["reasons"]}
    values |= row.get("because", {})
    parts = sorted(row["score_parts"].items(), key=lambda part: -part[1])[:2]
    return ", ".join(f"{name}{_value(values.get(name, ''))} {adds:+.2f}" for name, adds in parts)


def _value(value: str) -> str:
    # A film has many actors; the first few tell which one it is.
    return f" ({textwrap.shorten(value, _LETTERS, placeholder=' …')})" if value else ""
