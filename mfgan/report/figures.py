"""Figures of the user model as files of their own: comparison of models, adaptation of policies."""

import re
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from mfgan.report.charts import WIDTH, Interval, Series, interval_chart, line_chart

_GAP = 16.0
_COLOURS = ("#0072b2", "#c77700", "#008060", "#c44d00", "#b0528a", "#2b8cc4", "#8a7d00", "#6a6a6a")
_DASHES = {1: "7 3", 2: "2 3", 3: "9 3 2 3", 5: "4 2", 6: "12 4", 7: "1 2"}
_RULES = (
    ".chart{font:12px system-ui,sans-serif}",
    ".chart text{fill:#57606a}",
    ".chart .title{fill:#1b1f24;font-weight:600;font-size:13px}",
    ".chart .end{text-anchor:end}",
    ".chart .middle{text-anchor:middle}",
    ".chart .grid{stroke:#d8dee4;fill:none}",
    ".chart .axis{stroke:#57606a;fill:none}",
    ".chart .line path{fill:none;stroke-width:2}",
    ".chart .dot path{stroke:#57606a;stroke-width:2}",
    ".chart .dot circle{fill:#57606a}",
    ".chart .dot.strong path{stroke:#0059a3;stroke-width:3}",
    ".chart .dot.strong circle{fill:#0059a3}",
    ".chart .dot.strong text{fill:#1b1f24;font-weight:700}",
    *(f".chart .c{n} path{{stroke:{colour}}}" for n, colour in enumerate(_COLOURS)),
    *(f".chart .c{n} circle{{fill:{colour}}}" for n, colour in enumerate(_COLOURS)),
    *(f".chart .c{n} path{{stroke-dasharray:{dashes}}}" for n, dashes in _DASHES.items()),
)


def sheet(charts: Sequence[str], *, columns: int = 2) -> str:
    """Charts side by side in one SVG file that needs no style sheet.

    Args:
        charts: Elements that the functions of ``mfgan.report.charts`` return.
        columns: How many in a row.

    Returns:
        The text of the file.
    """
    heights = [float(_height(chart)) for chart in charts]
    placed, top = [], _GAP
    for start in range(0, len(charts), columns):
        row = range(start, min(start + columns, len(charts)))
        for place in row:
            left = _GAP + (place - start) * (WIDTH + _GAP)
            at = f'x="{left:.0f}" y="{top:.0f}" width="{WIDTH}" height="{heights[place]:.0f}"'
            placed.append(charts[place].replace("<svg ", f"<svg {at} ", 1))
        top += max(heights[place] for place in row) + _GAP
    width = _GAP + min(columns, len(charts)) * (WIDTH + _GAP)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {top:.0f}"'
        f' width="{width:.0f}" height="{top:.0f}"><style>{"".join(_RULES)}</style>'
        f'<rect width="100%" height="100%" fill="#ffffff"/>{"".join(placed)}</svg>\n'
    )


def _height(chart: str) -> str:
    found = re.search(r'viewBox="0 0 \d+ (\d+)"', chart)
    assert found is not None
    return found[1]


def comparison_figure(result: Mapping[str, Any]) -> str:
    """Test P@1 and P@2 of the compared user models, a row of charts a data set.

    Args:
        result: What ``compare_models`` returned. Models have their interval over seeds, floors
            none; the model that validation chose stands out.

    Returns:
        The text of an SVG file.
    """
    charts = []
    for name, summary in result["summary"].items():
        chosen = summary["chosen on validation by P@1"]
        for metric in ("P@1", "P@2"):
            rows = []
            for floor, cells in result["floors"][name].items():
                value = cells["metrics"][metric]
                rows.append(Interval(floor, value, value, value))
            for model, parts in summary["models"].items():
                cell = parts["test"][metric]
                # Of one seed there is no interval.
                low, high = (
                    cell["interval"] if isfinite(cell["interval"][0]) else [cell["mean"]] * 2
                )
                rows.append(Interval(model, cell["mean"], low, high, strong=model == chosen))
            charts.append(interval_chart(f"{name}: test {metric}", rows, reach=()))
    return sheet(charts)


def adaptation_figure(found: Mapping[str, Any]) -> str:
    """What a policy earns from new users while it goes on learning from some of them.

    Args:
        found: What ``evaluate_policies`` returned with ``adapt``.

    Returns:
        The text of an SVG file: the policies' mean, with the rivals that do not learn.
    """
    curves = found["adaptation"]
    shown = [point["displays a user"] for point in curves[0]]
    means = np.mean([[point["reward"] for point in curve] for curve in curves], axis=0)
    lines = [Series("cascading DQN, adapting", list(zip(shown, means.tolist(), strict=True)))]
    for name, cells in found["recommenders"].items():
        if name != "cascading DQN":
            level = cells["reward"]["mean"]
            lines.append(Series(name, [(shown[0], level), (shown[-1], level)]))
    title = "Cumulative reward among held-out users"
    return sheet([line_chart(title, lines, x_label="displays to each new user")])
