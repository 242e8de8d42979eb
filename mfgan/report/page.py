"""One offline HTML page that tells how a run went."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from mfgan._version import __version__
from mfgan.console import SILENT, Reporter
from mfgan.errors import MfganError
from mfgan.files import atomic_file
from mfgan.report.charts import Bar, Interval, interval_chart, share_chart
from mfgan.report.curves import stage_curves
from mfgan.report.factor_shares import FactorShares, factor_shares
from mfgan.report.standing import Standing, standing
from mfgan.training.log import read_rows
from mfgan.training.run import Run

SAMPLED = "sampled:100"
_INSTALL = "run: pip install 'mfgan[report]'"


def write_report(
    run: Run | str | Path,
    out: Path | None = None,
    *,
    stage: str | None = None,
    controls: Sequence[Run | str | Path] = (),
    device: str = "cpu",
    seed: int = 0,
    reporter: Reporter = SILENT,
) -> Path:
    """Evaluate a run on its test split and write the page.

    Args:
        run: The run, or its directory.
        out: The file; ``report.html`` in the run directory where None.
        stage: The stage in question; chosen as ``standing`` does where None.
        controls: Other runs of the same data set to compare with.
        device: Where the generator computes.
        seed: Of drawn candidates, users, bootstrap and tests.
        reporter: Shows the progress.

    Returns:
        The file.

    Raises:
        MfganError: matplotlib or jinja2 is not installed, or no stage has trained a generator.
    """
    template = _template()
    run = run if isinstance(run, Run) else Run.open(run)
    options: dict[str, Any] = {
        "stage": stage,
        "controls": controls,
        "device": device,
        "seed": seed,
        "reporter": reporter,
    }
    full = standing(run, **options)
    tables = [full]
    try:
        tables.append(standing(run, protocol=SAMPLED, **options))
    except MfganError as error:
        reporter.note(f"left out: the table of {SAMPLED}: {error}")
    shares, example = _explained(run, stage, seed, reporter)
    rows = read_rows(run.metrics_path) if run.metrics_path.exists() else []
    page = template.render(
        **_facts(run, full),
        tables=[_table(table) for table in tables],
        comparisons=full.comparisons,
        intervals=_interval_charts(full),
        slices=_slices(full),
        stages=stage_curves(rows),
        duration=_duration,
        shares=shares,
        share_chart=_share_chart(shares) if shares else "",
        example=example,
    )
    out = out or run.path / "report.html"
    with atomic_file(out) as handle:
        handle.write(page.encode())
    return out


def _template() -> Any:
    try:
        import matplotlib  # noqa: F401  the example's picture
    except ImportError:
        raise MfganError(f"report: needs matplotlib, found none; {_INSTALL}") from None
    try:
        from jinja2 import Environment, StrictUndefined
    except ImportError:
        raise MfganError(f"report: needs jinja2, found none; {_INSTALL}") from None
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["n"] = lambda value: f"{value:,}"
    return environment.from_string(files(__package__).joinpath("page.html").read_text("utf-8"))


def _facts(run: Run, full: Standing) -> dict[str, Any]:
    dataset = run.dataset
    ours = full.ours.evaluation
    return {
        "version": __version__,
        "run": str(run.path),
        "data": dataset.manifest,
        "fingerprint": dataset.fingerprint,
        "config": run.config.to_toml(),
        "train_seed": run.config.seed,
        "ours": full.ours,
        "evaluation": ours,
        "headline": [
            (name, ours.metrics[name], *ours.interval(name)) for name in ("NDCG@10", "HR@10", "MRR")
        ],
        "verdict": _verdict(full),
    }


def _verdict(full: Standing) -> list[str]:
    """What the tests say of NDCG@10, in words, one sentence a rival."""
    sentences = []
    for row in full.comparisons:
        if row.metric != "NDCG@10":
            continue
        word = "better" if row.difference > 0 else "worse"
        if row.p_holm < 0.05:
            told = f"{word} than {row.against} by {abs(row.difference):.4f} (p {_p(row.p_holm)})"
        else:
            told = f"not told apart from {row.against} ({row.difference:+.4f}, p {_p(row.p_holm)})"
        sentences.append(told)
    return sentences


def _p(value: float) -> str:
    return "below 0.001" if value < 0.001 else f"{value:.3f}"


def _table(found: Standing) -> dict[str, Any]:
    ours = found.ours.evaluation
    rows = []
    for name in ours.names:
        best = max(row.evaluation.metrics[name] for row in found.contenders)
        cells = [
            {
                "value": row.evaluation.metrics[name],
                "interval": row.evaluation.interval(name),
                "best": row.evaluation.metrics[name] == best,
                "ours": row is found.ours,
            }
            for row in found.contenders
        ]
        rows.append({"name": name, "cells": cells})
    return {"suffix": ours.suffix, "contenders": found.contenders, "rows": rows}


def _interval_charts(found: Standing) -> list[str]:
    charts = []
    for name in ("NDCG@10", "HR@10"):
        rows = [
            Interval(
                row.name,
                row.evaluation.metrics[name],
                *row.evaluation.interval(name),
                strong=row is found.ours,
            )
            for row in found.contenders
        ]
        charts.append(interval_chart(f"{name}, full ranking, 95 % intervals", rows))
    return charts


def _slices(found: Standing) -> list[dict[str, Any]]:
    others = {row.name: {s.name: s for s in row.evaluation.slices} for row in found.contenders}
    return [
        {
            "name": part.name,
            "num_users": part.num_users,
            "interval": part.intervals["NDCG@10"],
            "values": [others[row.name][part.name].metrics["NDCG@10"] for row in found.contenders],
        }
        for part in found.ours.evaluation.slices
    ]


def _explained(
    run: Run, stage: str | None, seed: int, reporter: Reporter
) -> tuple[FactorShares | None, dict[str, str] | None]:
    if run.weights("discriminators", stage) is None:
        return None, None
    reporter.note("factors")
    shares = factor_shares(run, stage=stage, seed=seed)
    return shares, _example(run, stage)


def _example(run: Run, stage: str | None) -> dict[str, str]:
    """One user's explanation: the first whose history is of about the median length."""
    from mfgan.explain.explainer import Explainer
    from mfgan.explain.plot import draw_svg

    lengths = np.diff(run.dataset.offsets)
    user = int(np.abs(lengths - np.median(lengths)).argmin())
    found = Explainer(run, stage=stage).explain(user=run.dataset.user_ids[user], steps=30)
    return {"name": found.name, "svg": draw_svg(found)}


def _share_chart(shares: FactorShares) -> str:
    bars = [
        Bar(name, row.tolist())
        for name, row in zip(("items taken", "recommended"), shares.shares, strict=True)
    ]
    return share_chart("each factor's share of the judgement", shares.names, bars)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
