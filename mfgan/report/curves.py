"""From ``metrics.jsonl`` to the charts of every stage."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mfgan.report.charts import Series, line_chart

# Of a row, but no curve.
_PLACE = {"stage", "epoch", "step", "elapsed", "model", "best", "validation"}
_LEAST_TOLD = ("learning_rate", "grad_norm", "tokens_per_second")  # shown last
_VALIDATED = ("HR@10", "NDCG@10", "MRR")


@dataclass(frozen=True)
class StageCurves:
    """A stage's charts.

    Args:
        name: The stage.
        epochs: Epochs in the log.
        seconds: Time spent.
        charts: SVG elements, the most telling first.
        more_charts: Those of learning rate, gradients and speed.
        figures: What has single values, which a chart would show as dots: a title, and its values
            by name.
    """

    name: str
    epochs: int
    seconds: float
    charts: tuple[str, ...]
    more_charts: tuple[str, ...]
    figures: tuple[tuple[str, tuple[tuple[str, float], ...]], ...]


def stage_curves(rows: Sequence[dict[str, Any]]) -> list[StageCurves]:
    """The charts of each stage that the log knows, in the order in which they began."""
    stages: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        stages[row["stage"]].append(row)
    return [_of_stage(name, part) for name, part in stages.items()]


def _of_stage(name: str, rows: Sequence[dict[str, Any]]) -> StageCurves:
    charts: list[str] = []
    more_charts: list[str] = []
    figures = []
    for title, lines in _curves(rows):
        if any(len(line.points) > 1 for line in lines):
            chart = line_chart(title, lines, x_label="epoch")
            (more_charts if _order(title)[0] > 0 else charts).append(chart)
        else:
            figures.append((title, tuple((line.name, line.points[0][1]) for line in lines)))
    return StageCurves(
        name=name,
        epochs=max(row["epoch"] for row in rows),
        seconds=max(row.get("elapsed", 0.0) for row in rows),
        charts=tuple(charts),
        more_charts=tuple(more_charts),
        figures=tuple(figures),
    )


def _curves(rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[Series]]]:
    curves: dict[str, dict[str, list[tuple[float, float]]]] = defaultdict(lambda: defaultdict(list))
    models = {row["model"] for row in rows if "model" in row}
    for row in rows:
        for name, value in row.get("validation", {}).items():
            # Of a ranking's many metrics three are enough.
            if "@" not in name or name in _VALIDATED:
                title, slash, factor = name.partition("/")
                title = f"validation: {title} by factor" if slash else "validation"
                curves[title][factor or name].append((row["epoch"], float(value)))
        for name, value in row.items():
            if name not in _PLACE and isinstance(value, (int, float)):
                title, line = _title(name, row.get("model", ""), several=len(models) > 1)
                curves[title][line].append((row["epoch"], float(value)))
    for title in sorted(curves, key=_order):
        yield title, [Series(name, points) for name, points in curves[title].items()]


def _title(name: str, model: str, *, several: bool) -> tuple[str, str]:
    """The chart a figure belongs to, and its line: ``loss/genre`` is the line genre of loss."""
    title, slash, factor = name.partition("/")
    if slash:
        return f"{title} by factor", factor
    if several and name in ("loss", *_LEAST_TOLD):
        return f"{name.replace('_', ' ')}, {model}", model
    return name.replace("_", " "), name.replace("_", " ")


def _order(title: str) -> tuple[int, str]:
    for place, name in enumerate(_LEAST_TOLD, start=1):
        if title.startswith(name.replace("_", " ")):
            return place, title
    first = ("validation", "loss")
    return next((place - 9 for place, name in enumerate(first) if title.startswith(name)), 0), title
