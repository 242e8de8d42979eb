"""``mfgan explain``: which factors spoke for a user's items, step by step."""

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH

if TYPE_CHECKING:
    from mfgan.explain import Explanation

_LETTERS = 100  # of an id in a file's name


@click.command("explain")
@options.run
@options.user
@options.session
@options.count
@click.option(
    "--steps",
    type=options.whole(0),
    default=50,
    show_default=True,
    help="Judge the last so many steps of the history.",
)
@click.option(
    "--out",
    type=PATH,
    help="Files to write, endings added.  [default: RUN/explain/ID]",
)
@options.stage
@options.device
@options.threads
@click.option("--json", "as_json", is_flag=True, help="Print the JSON document too.")
@click.option("--quiet", is_flag=True, help="Print no table.")
def command(
    run: Path,
    user: str | None,
    session: str | None,
    count: int,
    steps: int,
    out: Path | None,
    stage: str | None,
    device: str,
    as_json: bool,
    quiet: bool,
) -> None:
    """Show every factor's judgement of each step of a history and of each recommendation.

    Writes a picture (PNG and SVG) and all figures (JSON): each factor's logit y, its probability
    sigmoid(y), its weight w and its share w * sigmoid(y) / Q in the joint judgement Q; of a
    calibrated run also its contribution to a recommendation's score in the corrected ranking. What
    a recommendation's score is made of, part by part, is exact: the item's own vector and those of
    the factors that the generator has. `mfgan eval --explanations` measures how far they hold.
    """
    from mfgan.errors import MfganError

    if (user is None) == (session is None):
        raise MfganError("explain: give either --user or --session")
    import json

    from mfgan.cli.recommend import look_up
    from mfgan.console import Reporter
    from mfgan.explain import Explainer
    from mfgan.explain.plot import save_plot
    from mfgan.files import write_json

    explainer = Explainer(run, stage=stage, device=device)
    session_or_none = None if session is None else look_up(explainer.recommender, None, session)
    found = explainer.explain(user=user, session=session_or_none, k=count, steps=steps)
    stem = out or run / "explain" / file_name(f"session {session}" if user is None else user)
    paths = {kind: stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg", "json")}
    save_plot(found, paths["png"], paths["svg"])
    write_json(paths["json"], found.details)
    reporter = Reporter(quiet=quiet, stderr=as_json)
    _show(reporter, found)
    for path in paths.values():
        reporter.note(str(path))
    if as_json:
        click.echo(json.dumps(found.details, allow_nan=False, ensure_ascii=False))


def file_name(name: str) -> str:
    """A name that any file system takes: the given one, or what it is like and a digest of it."""
    # An id of the log may hold anything, a slash or a leading dot included.
    safe = re.sub(r"[^\w-]", "_", name, flags=re.ASCII)[:_LETTERS]
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:10]}"


def _show(reporter: Any, found: "Explanation") -> None:
    from mfgan.recommend import RANK

    unknown = found.details["unknown_items"]
    if unknown:
        reporter.note(f"skipped, not in the catalogue: {', '.join(unknown)}")
    for title, part, place, rows in (
        (f"{found.name}: last steps of the history", "history", "step", 10),
        ("recommendations", "recommendations", RANK, None),
    ):
        entries = found.details[part][-rows:] if rows else found.details[part]
        columns = ["title", place, "Q", *found.factor_names]
        table = [
            [
                entry["title"],
                str(entry[place]),
                f"{entry['judgement']:.2f}",
                *(_share(factor, entry["leading"]) for factor in entry["factors"]),
            ]
            for entry in entries
        ]
        reporter.table(f"{title} (shares; * leads)", columns, table)
    _show_score_parts(reporter, found)


def _show_score_parts(reporter: Any, found: "Explanation") -> None:
    from mfgan.explain.explainer import SCORE_PARTS
    from mfgan.recommend import RANK

    rows = [
        [
            entry["title"],
            str(entry[RANK]),
            *(f"{value:+.2f}" for value in entry[SCORE_PARTS].values()),
        ]
        for entry in found.details["recommendations"]
    ]
    title = "what the scores are made of, beyond an average candidate's"
    reporter.table(title, ["title", RANK, *found.score_parts.names], rows)


def _share(factor: dict[str, Any], leading: str) -> str:
    return f"{'*' if factor['factor'] == leading else ''}{factor['share']:.0%}"
