"""``mfgan eval``: how well a run recommends, beside baselines and controls."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from mfgan.cli import options
from mfgan.cli.options import PATH

if TYPE_CHECKING:
    import polars as pl

    from mfgan.console import Reporter
    from mfgan.report.standing import Standing
    from mfgan.training.run import Run


@click.command("eval")
@options.run
@click.option(
    "--split",
    type=click.Choice(["test", "validation"]),
    default="test",
    show_default=True,
    help="Whose targets are ranked.",
)
@click.option(
    "--protocol",
    default="full",
    show_default=True,
    metavar="full|sampled:N",
    help="Against every unseen item, or against N drawn ones.",
)
@options.stage
@options.controls
@click.option("--baselines/--no-baselines", default=True, help="Popularity and item-kNN beside it.")
@click.option(
    "--explanations",
    is_flag=True,
    help="Measure how far the factors' shares hold, over up to 500 users.",
)
@click.option("--json", "json_file", metavar="FILE", help="Write everything as JSON; - prints it.")
@click.option("--per-user", type=PATH, help="Write a Parquet row a user.")
@options.seed
@options.device
@options.threads
@click.option("--quiet", is_flag=True, help="Show no progress and no table.")
def command(
    run: Path,
    split: str,
    protocol: str,
    stage: str | None,
    controls: tuple[Path, ...],
    baselines: bool,
    explanations: bool,
    json_file: str | None,
    per_user: Path | None,
    seed: int,
    device: str,
    quiet: bool,
) -> None:
    """Evaluate the generator of RUN: HR, NDCG and MRR with 95 % intervals.

    Every user's held-out item is ranked against all items that she has not had. Popularity and
    item-kNN stand beside it, as do the other stages of the run; differences are tested over users
    and corrected for their number.
    """
    import json

    from mfgan.console import Reporter
    from mfgan.evaluation.protocol import parse_protocol
    from mfgan.report.standing import standing
    from mfgan.training.run import Run

    parse_protocol(protocol)
    reporter = Reporter(quiet=quiet, stderr=json_file == "-")
    opened = Run.open(run)
    found = standing(
        opened,
        split=split,  # type: ignore[arg-type]
        protocol=protocol,
        stage=stage,
        controls=controls,
        baselines=baselines,
        device=device,
        seed=seed,
        reporter=reporter,
    )
    document = {"run": str(run), "dataset": _dataset(opened), **found.to_dict()}
    if explanations:
        document["explanations"] = _explanations(opened, stage, seed)
    if per_user is not None:
        _write_parquet(per_user, _with_ids(found, opened))
    if json_file == "-":
        click.echo(json.dumps(document, allow_nan=False))
    elif json_file is not None:
        from mfgan.files import write_json

        write_json(Path(json_file), document)
    _show(reporter, found, document)


def _dataset(run: "Run") -> dict[str, Any]:
    dataset = run.dataset
    return {
        "name": dataset.manifest.get("name"),
        "fingerprint": dataset.fingerprint,
        "num_users": dataset.num_users,
        "num_items": dataset.num_items,
    }


def _explanations(run: "Run", stage: str | None, seed: int) -> dict[str, Any]:
    from dataclasses import asdict

    from mfgan.explain import faithfulness

    found = faithfulness(run, stage=stage, seed=seed)
    correction = None if stage is not None else run.correction()
    return {
        "num_users": found.num_users,
        "agreements": [asdict(agreement) for agreement in found.agreements],
        "drops": dict(zip(found.names, found.drops.tolist(), strict=True)),
        "calibration": correction and [asdict(factor) for factor in correction.factors],
    }


def _with_ids(found: "Standing", run: "Run") -> "pl.DataFrame":
    from mfgan.data.columns import ITEM_ID, ITEM_IDX, USER_ID, USER_IDX

    frame = found.ours.evaluation.per_user
    users = run.dataset.user_ids.take(frame[USER_IDX].to_numpy())
    items = run.dataset.item_ids.take(frame[ITEM_IDX].to_numpy())
    frame = frame.drop(USER_IDX, ITEM_IDX)
    return frame.insert_column(0, users.alias(USER_ID)).insert_column(1, items.alias(ITEM_ID))


def _write_parquet(path: Path, frame: "pl.DataFrame") -> None:
    from mfgan.files import atomic_file

    with atomic_file(path) as handle:
        frame.write_parquet(handle)


def _show(reporter: "Reporter", found: "Standing", document: dict[str, Any]) -> None:
    ours = found.ours.evaluation
    data = document["dataset"]
    reporter.note(
        f"{data['name']}: {ours.num_users:,} {ours.split} users, {data['num_items']:,} items, "
        f"protocol {ours.protocol}, seed {ours.seed}"
    )
    # The mark of a sampled protocol stands at the column's head, and so over every figure.
    reporter.table(
        "mean over users",
        [
            f"metric{ours.suffix}",
            *(_wrapped(row.name) for row in found.contenders),
            "95 % interval",
        ],
        [
            [
                name.removesuffix(ours.suffix),
                *(f"{row.evaluation.metrics[name]:.4f}" for row in found.contenders),
                _interval(ours.interval(name)),
            ]
            for name in ours.names
        ],
    )
    _show_differences(reporter, found)
    if ours.coverage:
        _show_recommended(reporter, found)
    _show_slices(reporter, found)
    if "explanations" in document:
        _show_explanations(reporter, document["explanations"])


def _show_explanations(reporter: "Reporter", found: dict[str, Any]) -> None:
    rows = [
        [
            agreement["claim"],
            agreement["measured"],
            f"{agreement['correlation']:+.3f}",
            f"{agreement['interval'][0]:+.3f} to {agreement['interval'][1]:+.3f}",
        ]
        for agreement in found["agreements"]
    ]
    columns = ["claimed", "drop of the", "rank correlation", "95 % interval"]
    title = "what each factor is claimed to bring, against the drop when its values are dealt anew"
    reporter.table(f"{title} ({found['num_users']:,} users)", columns, rows)
    if found["calibration"]:
        if not any(factor["weight"] for factor in found["calibration"]):
            reporter.note("no factor counts in the ranking: there is no contribution to test")
        rows = [
            [f["name"], f"{f['raw_calibration']:.4f}", f"{f['calibration']:.4f}"]
            for f in found["calibration"]
        ]
        columns = ["factor", "sigmoid(y)", "calibrated"]
        reporter.table("expected calibration error", columns, rows)


def _show_differences(reporter: "Reporter", found: "Standing") -> None:
    rows = [
        [
            f"{row.metric} less {row.against}",
            f"{row.difference:+.4f}",
            f"{row.interval[0]:+.4f} to {row.interval[1]:+.4f}",
            f"{row.p_holm:.4f}",
        ]
        for row in found.comparisons
    ]
    if rows:
        columns = ["difference", "mean", "95 % interval", "p (Holm)"]
        reporter.table(f"{found.ours.name} against each, over the same users", columns, rows)


def _show_recommended(reporter: "Reporter", found: "Standing") -> None:
    rows = [
        [
            row.name,
            f"{row.evaluation.coverage['coverage@10']:.1%}",
            f"{row.evaluation.popularity['popularity@10']:.3f}",
            f"{row.evaluation.popularity['interactions@10']:,.1f}",
        ]
        for row in found.contenders
    ]
    columns = ["recommender", "coverage@10", "popularity@10", "interactions@10"]
    reporter.table("what is recommended (popularity .5: as random lists)", columns, rows)


def _show_slices(reporter: "Reporter", found: "Standing") -> None:
    suffix = found.ours.evaluation.suffix
    hits, gain = f"HR@10{suffix}", f"NDCG@10{suffix}"
    rows = [
        [
            part.name,
            f"{part.num_users:,}",
            f"{part.metrics[hits]:.4f}",
            f"{part.metrics[gain]:.4f}",
            _interval(part.intervals[gain]),
        ]
        for part in found.ours.evaluation.slices
    ]
    columns = ["group", "users", hits, gain, "95 % interval"]
    reporter.table(f"{found.ours.name} by groups of users", columns, rows)


def _interval(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.4f}–{bounds[1]:.4f}"


def _wrapped(name: str) -> str:
    return name.replace("-", "-\n") if len(name) > 12 and "/" not in name else name
