"""Small charts as SVG text: no library, no script, colours from the page's style sheet.

Series are told apart by colour and by dashes, marks carry their figures as tooltips, and each chart
has a title and a description for those who do not see it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from math import floor, isfinite, log10

WIDTH, HEIGHT = 460, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 14, 26, 36
_LETTER = 7.0  # mean width of a letter of the charts' font
_SHADES = 8  # colours in the style sheet


@dataclass(frozen=True)
class Series:
    """A line: its name, and its points by x."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Interval:
    """A dot with whiskers: its name, value and bounds; ``strong`` for the one in question."""

    name: str
    value: float
    low: float
    high: float
    strong: bool = False


@dataclass(frozen=True)
class Bar:
    """A bar of parts that add up to 1."""

    name: str
    parts: Sequence[float]


def line_chart(title: str, series: Sequence[Series], *, x_label: str) -> str:
    """Lines over a shared x.

    Args:
        title: What is measured.
        series: The lines; points that are not finite are left out.
        x_label: What x is.

    Returns:
        The SVG element.
    """
    kept = [Series(s.name, [p for p in s.points if isfinite(p[1])]) for s in series]
    kept = [s for s in kept if s.points]
    legend = _legend([s.name for s in kept]) if len(kept) > 1 else ""
    height = HEIGHT + (_legend_height([s.name for s in kept]) if legend else 0)
    x_ticks, x = _scale([p[0] for s in kept for p in s.points], _LEFT, WIDTH - _RIGHT, whole=True)
    y_ticks, y = _scale([p[1] for s in kept for p in s.points], HEIGHT - _BOTTOM, _TOP)
    body = [_horizontal_grid(y_ticks, y), _x_axis(x_ticks, x, HEIGHT - _BOTTOM, x_label)]
    for place, line in enumerate(kept):
        body.append(_line(place, line, x, y))
    summary = "; ".join(_summary(line) for line in kept) or "no values"
    return _svg(title, summary, height, [*body, legend])


def interval_chart(title: str, rows: Sequence[Interval], *, reach: Sequence[float] = (0.0,)) -> str:
    """Dots with whiskers, one a row: means with their intervals.

    Args:
        title: What is measured.
        rows: From top to bottom.
        reach: Values that the axis reaches whatever the rows are.

    Returns:
        The SVG element.
    """
    left = min(190.0, 20 + _LETTER * max(len(row.name) for row in rows))
    step = 26
    bottom = _TOP + step * len(rows) + 6
    ends = [bound for row in rows for bound in (row.low, row.high)]
    ticks, x = _scale([*reach, *ends], left, WIDTH - _RIGHT)
    body = [_vertical_grid(ticks, x, _TOP, bottom), _x_axis(ticks, x, bottom, "")]
    for place, row in enumerate(rows):
        y = _TOP + step * (place + 0.6)
        strong = " strong" if row.strong else ""
        figures = f"{row.name}: {row.value:.4f} ({row.low:.4f} to {row.high:.4f})"
        body.append(
            f'<g class="dot{strong}"><title>{escape(figures)}</title>'
            f'<text x="{left - 10:.1f}" y="{y + 4:.1f}" class="end">'
            f"{escape(_cut(row.name, int((left - 20) / _LETTER)))}</text>"
            f'<path d="M{x(row.low):.1f} {y:.1f}H{x(row.high):.1f}"/>'
            f'<circle cx="{x(row.value):.1f}" cy="{y:.1f}" r="4.5"/></g>'
        )
    summary = "; ".join(f"{r.name} {r.value:.4f}, {r.low:.4f} to {r.high:.4f}" for r in rows)
    return _svg(title, summary, bottom + 26, body)


def share_chart(title: str, names: Sequence[str], bars: Sequence[Bar]) -> str:
    """Stacked bars of shares.

    Args:
        title: What is shared.
        names: Of the parts.
        bars: From top to bottom.

    Returns:
        The SVG element.
    """
    left = min(190.0, 20 + _LETTER * max(len(bar.name) for bar in bars))
    step = 34
    bottom = _TOP + step * len(bars) + 4
    ticks, x = [0.0, 0.25, 0.5, 0.75, 1.0], _linear(0.0, 1.0, left, WIDTH - _RIGHT - 8)
    body = [_x_axis(ticks, x, bottom, "", [f"{tick:.0%}" for tick in ticks])]
    for row, bar in enumerate(bars):
        y, start = _TOP + step * row + 4, 0.0
        body.append(
            f'<text x="{left - 10:.1f}" y="{y + 17:.1f}" class="end">{escape(bar.name)}</text>'
        )
        for place, (name, part) in enumerate(zip(names, bar.parts, strict=True)):
            width = x(start + part) - x(start)
            body.append(
                f'<rect class="fill c{place % _SHADES}" x="{x(start):.1f}" y="{y}" '
                f'width="{max(width, 0):.1f}" height="25">'
                f"<title>{escape(f'{bar.name}, {name}: {part:.1%}')}</title></rect>"
            )
            if width > 34:
                body.append(
                    f'<text class="inside i{place % _SHADES}" x="{x(start) + width / 2:.1f}" '
                    f'y="{y + 17}">{part:.0%}</text>'
                )
            start += part
    legend = _legend(names, top=bottom + 34, filled=True)
    height = bottom + 34 + _legend_height(names)
    told = (
        f"{name} {part:.1%}" for bar in bars for name, part in zip(names, bar.parts, strict=True)
    )
    return _svg(title, "; ".join(told), height, [*body, legend])


Scale = Callable[[float], float]


def _linear(low: float, high: float, start: float, end: float) -> Scale:
    return lambda value: start + (value - low) / (high - low) * (end - start)


def _scale(
    values: Sequence[float], start: float, end: float, *, whole: bool = False
) -> tuple[list[float], Scale]:
    """Round ticks around the values, and the map from values to places."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-12):
        pad = abs(low) / 10 or 1.0
        low, high = low - pad, high + pad
    raw = (high - low) / 4
    unit = 10.0 ** floor(log10(raw))
    step = next(unit * m for m in (1, 2, 2.5, 5, 10) if unit * m >= raw * 0.999)
    if whole:
        step = max(1.0, round(step))
    first, last = floor(low / step), -floor(-high / step)
    ticks = [step * place for place in range(first, last + 1)]
    return ticks, _linear(ticks[0], ticks[-1], start, end)


def _line(place: int, line: Series, x: Scale, y: Scale) -> str:
    path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in line.points)
    dots = ""
    if len(line.points) <= 40:
        dots = "".join(
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="2.6">'
            f"<title>{escape(f'{line.name}: {_figure(b)} at {_figure(a)}')}</title></circle>"
            for a, b in line.points
        )
    return f'<g class="line c{place % _SHADES}"><path d="M{path}"/>{dots}</g>'


def _horizontal_grid(ticks: Sequence[float], y: Scale) -> str:
    return "".join(
        f'<path class="grid" d="M{_LEFT} {y(t):.1f}H{WIDTH - _RIGHT}"/>'
        f'<text class="end" x="{_LEFT - 6}" y="{y(t) + 4:.1f}">{text}</text>'
        for t, text in zip(ticks, _tick_texts(ticks), strict=True)
    )


def _vertical_grid(ticks: Sequence[float], x: Scale, top: float, bottom: float) -> str:
    return "".join(f'<path class="grid" d="M{x(t):.1f} {top}V{bottom}"/>' for t in ticks)


def _x_axis(
    ticks: Sequence[float],
    x: Scale,
    y: float,
    label: str,
    written: Sequence[str] | None = None,
) -> str:
    texts = "".join(
        f'<text class="middle" x="{x(t):.1f}" y="{y + 15:.1f}">{text}</text>'
        for t, text in zip(ticks, written or _tick_texts(ticks), strict=True)
    )
    if label:
        middle = (x(ticks[0]) + x(ticks[-1])) / 2
        texts += f'<text class="middle" x="{middle:.1f}" y="{y + 30:.1f}">{escape(label)}</text>'
    return f'<path class="axis" d="M{x(ticks[0]):.1f} {y:.1f}H{x(ticks[-1]):.1f}"/>{texts}'


def _places(names: Sequence[str]) -> list[tuple[float, float]]:
    """Where each entry of a legend starts: from left to right, then the next line."""
    places: list[tuple[float, float]] = []
    x, y = 12.0, 0.0
    for name in names:
        width = 46 + 1.1 * _LETTER * len(name)
        if places and x + width > WIDTH:
            x, y = 12.0, y + 18
        places.append((x, y))
        x += width
    return places


def _legend_height(names: Sequence[str]) -> float:
    return _places(names)[-1][1] + 22 if names else 0.0


def _legend(names: Sequence[str], *, top: float = HEIGHT + 6, filled: bool = False) -> str:
    parts = []
    for place, (name, (x, y)) in enumerate(zip(names, _places(names), strict=True)):
        y += top
        kind = f"c{place % _SHADES}"
        key = f'<g class="line {kind}"><path d="M{x:.1f} {y:.1f}h22"/></g>'
        if filled:
            key = f'<rect class="fill {kind}" x="{x:.1f}" y="{y - 6:.1f}" width="20" height="12"/>'
        parts.append(f'{key}<text x="{x + 28:.1f}" y="{y + 4:.1f}">{escape(name)}</text>')
    return "".join(parts)


def _svg(title: str, summary: str, height: float, body: Sequence[str]) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {height:.0f}" role="img" '
        f'aria-label="{escape(f"{title}: {summary}")}"><title>{escape(title)}</title>'
        f"<desc>{escape(summary)}</desc>"
        f'<text class="title" x="12" y="14">{escape(title)}</text>{"".join(body)}</svg>'
    )


def _summary(line: Series) -> str:
    values = [value for _, value in line.points]
    return (
        f"{line.name}: from {_figure(values[0])} to {_figure(values[-1])}, "
        f"lowest {_figure(min(values))}, highest {_figure(max(values))}"
    )


def _tick_texts(ticks: Sequence[float]) -> list[str]:
    """The ticks with as many decimals as tell them apart."""
    step = ticks[1] - ticks[0]
    largest = max(abs(tick) for tick in ticks)
    if largest < 1e-2 or largest >= 1e6:
        return [f"{tick:.3g}" for tick in ticks]
    decimals = max(0, -floor(log10(step * 1.001)))
    if abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6:
        decimals += 1  # a step of 2.5
    return [f"{tick:,.{decimals}f}" for tick in ticks]


def _figure(value: float) -> str:
    if value == 0 or abs(value) >= 1e-4:
        text = f"{value:,.4f}" if abs(value) < 1000 else f"{value:,.0f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.1e}"


def _cut(name: str, longest: int) -> str:
    return name if len(name) <= longest else "…" + name[-(longest - 1) :]
