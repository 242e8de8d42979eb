"""The picture of an explanation: factor shares over time, those of recommendations, and scores."""

import hashlib
import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from mfgan.data.columns import TIMESTAMP, TITLE
from mfgan.errors import MfganError
from mfgan.explain.explainer import STEP, Explanation
from mfgan.explain.plot_score import draw_score_parts
from mfgan.files import atomic_file
from mfgan.recommend import RANK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, which people with any colour vision can tell apart.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#7F7F7F")
_DARK = ("#0072B2", "#009E73", "#D55E00", "#7F7F7F")  # white text reads better on these
_HATCHES = ("", "///", "...", "xxx")
_INK, _FAINT = "#222222", "#B8B8B8"
_LONGEST_TITLE = 34
_LETTERS = 110  # that fit across a whole bar of the recommendations
_PADDING = 0.2  # inches: labels reach a little further than the layout takes them to
_TITLES_FIT = 30  # steps whose titles can stand under the plot
_MADE_ID = re.compile(r"(?<![0-9A-Za-z])[hmp][0-9a-f]{10}(?![0-9A-Za-z])")  # of matplotlib's SVG

_STYLE: Any = {
    "font.size": 9.5,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "text.color": _INK,
    "text.parse_math": False,  # a title may hold a dollar sign
    "xtick.color": _INK,
    "ytick.color": _INK,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",  # text stays text: searchable, and read aloud
    "svg.hashsalt": "mfgan",  # the same picture gives the same file
}


def save_plot(explanation: Explanation, *paths: Path) -> None:
    """Draw an explanation and write it to files; the endings choose the formats.

    Args:
        explanation: What to draw.
        paths: Where to, such as ``.png`` and ``.svg``.

    Raises:
        MfganError: matplotlib is not installed.
    """
    with _styled():
        figure = _draw(explanation)
        for path in paths:
            with atomic_file(path) as handle:
                _save(figure, handle, path.suffix.removeprefix("."))


def draw_svg(explanation: Explanation) -> str:
    """Draw an explanation as an SVG element to put into a page.

    Raises:
        MfganError: matplotlib is not installed.
    """
    buffer = io.BytesIO()
    with _styled():
        _save(_draw(explanation), buffer, "svg")
    text = buffer.getvalue().decode()
    return text[text.index("<svg") :]


def _save(figure: "Figure", handle: IO[bytes], kind: str) -> None:
    if kind != "svg":
        figure.savefig(handle, format=kind, dpi=160, facecolor="white")
        return
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, metadata={"Date": None}, facecolor="white")
    handle.write(_named_anew(buffer.getvalue().decode()).encode())


def _named_anew(svg: str) -> str:
    """The picture with ids that follow from what is written in it.

    matplotlib makes them from numbers in full, whose last bits may differ between two drawings
    that look the same. Pictures of one page must not share any.
    """
    places: dict[str, int] = {}
    for name in _MADE_ID.findall(svg):
        places.setdefault(name, len(places))
    numbered = _MADE_ID.sub(lambda found: f"n{places[found[0]]}", svg)
    digest = hashlib.sha256(numbered.encode()).hexdigest()[:8]
    return _MADE_ID.sub(lambda found: f"n{digest}-{places[found[0]]}", svg)


@contextmanager
def _styled() -> Iterator[None]:
    try:
        import matplotlib
    except ImportError:
        raise MfganError(
            "explain: a plot needs matplotlib, found none; run: pip install 'mfgan[report]'"
        ) from None
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A title in a script that the font lacks is drawn with boxes in the PNG, right in the SVG.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def _draw(explanation: Explanation) -> "Figure":
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    names = explanation.factor_names
    # The generator may have factors that do not judge.
    every = [*names, *(name for name in explanation.score_parts.names if name not in names)]
    steps, items = explanation.history.height, explanation.recommendations.height
    bars = max(2.0, 0.9 + 0.34 * items)
    figure = Figure(figsize=(11.0, 5.0 + 2 * bars), layout=ConstrainedLayoutEngine(w_pad=_PADDING))
    # Parts, so that the titles of the recommendations do not indent the history.
    parts: Any = figure.subfigures(3, 1, height_ratios=(5.0, bars, bars))
    past, future, made_of = parts
    top, middle = past.subplots(2, 1, sharex=True, height_ratios=(0.9, 3.0))
    _draw_judgement(top, explanation)
    _draw_history(middle, explanation)
    handles = dict(zip(names, _draw_recommendations(future.subplots(), explanation), strict=True))
    labels = [
        f"{rank}. {_short(title, _LONGEST_TITLE)}"
        for rank, title in explanation.recommendations.select(RANK, TITLE).iter_rows()
    ]
    styles = {name: _bar_style(place) for place, name in enumerate(every)}
    handles |= draw_score_parts(made_of.subplots(), explanation, styles, labels)
    past.suptitle(
        f"{explanation.name}: what spoke for {steps} steps of the history "
        f"and for {items} recommendations",
        x=0.01,
        ha="left",
        fontsize=12.5,
        fontweight="bold",
    )
    past.legend(
        list(handles.values()),
        list(handles),
        title="Factor",
        loc="outside right upper",
        frameon=False,
        alignment="left",
    )
    # Once, so that every file shows the same layout.
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    return figure


def _draw_judgement(axes: "Axes", explanation: Explanation) -> None:
    combined = explanation.history_judgements.combined
    steps = explanation.history[STEP].to_numpy()
    axes.plot(steps, combined, color=_INK, linewidth=1.4, marker="o", markersize=3)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.5, 1])
    axes.axhline(0.5, color=_FAINT, linewidth=0.8, linestyle=":")
    axes.set_ylabel("Q")
    axes.set_title("How real the discriminators together found each step")
    axes.tick_params(labelbottom=False, length=0)


def _draw_history(axes: "Axes", explanation: Explanation) -> None:
    steps = explanation.history[STEP].to_numpy()
    shares = explanation.history_judgements.shares
    _stack(axes, steps, shares, explanation, horizontal=False)
    if len(steps):
        axes.set_xlim(steps[0] - 0.6, steps[-1] + 0.6)
    else:
        message = "no step to judge: nothing went before"
        axes.text(0.5, 0.5, message, ha="center", transform=axes.transAxes)
    axes.set_ylim(0, 1)
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_ylabel("share of the judgement")
    axes.set_title("Each factor's share in it (● leads)")
    axes.tick_params(length=0)
    if len(steps) <= _TITLES_FIT:
        labels = [
            f"{_short(title, 24)}  {step}"
            for step, title in zip(steps, explanation.history[TITLE], strict=True)
        ]
        axes.set_xticks(steps, labels, rotation=90, fontsize=7.5)
    else:
        axes.set_xlabel(_span(explanation))


def _draw_recommendations(axes: "Axes", explanation: Explanation) -> list[Any]:
    table, judged = explanation.recommendations, explanation.recommendation_judgements
    ranks = table[RANK].to_numpy()
    handles = _stack(axes, ranks, judged.shares, explanation, horizontal=True)
    labels = [
        f"{rank}. {_short(title, _LONGEST_TITLE)}  (Q {quality:.2f})"
        for rank, title, quality in zip(ranks, table[TITLE], judged.combined, strict=True)
    ]
    axes.set_yticks(ranks, labels)
    axes.set_ylim(len(ranks) + 0.5, 0.5)
    _write_values(axes, explanation)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    axes.set_title("Recommendations, and each factor's share in their judgement")
    axes.tick_params(length=0)
    return handles


def _stack(
    axes: "Axes", places: Any, shares: Any, explanation: Explanation, *, horizontal: bool
) -> list[Any]:
    starts = np.cumsum(shares, axis=1) - shares
    handles = []
    for factor in range(len(explanation.factor_names)):
        style = _bar_style(factor)
        size, start = shares[:, factor], starts[:, factor]
        if horizontal:
            handles.append(axes.barh(places, size, 0.78, left=start, **style))
        else:
            handles.append(axes.bar(places, size, 0.92, bottom=start, **style))
    rows = np.arange(len(places))
    leading = shares.argmax(axis=1)
    if horizontal:  # at the bar's start: its middle has the value's name
        x, y = starts[rows, leading] + 0.012, places
    else:
        x, y = places, (starts + shares / 2)[rows, leading]
    axes.plot(x, y, linestyle="", marker="o", markersize=3.2, color="white", mec=_INK, mew=0.5)
    return handles


def _bar_style(factor: int) -> dict[str, Any]:
    return {
        "color": PALETTE[factor % len(PALETTE)],
        "hatch": _HATCHES[factor // len(PALETTE) % len(_HATCHES)],
        "edgecolor": "white",
        "linewidth": 0.5,
    }


def _write_values(axes: "Axes", explanation: Explanation) -> None:
    for entry in explanation.details["recommendations"]:
        start = 0.0
        for place, factor in enumerate(entry["factors"]):
            share = factor["share"]
            text = _short(factor["value"], int(share * _LETTERS) - 2)
            if len(text) > 2 and place < len(PALETTE):
                style: Any = {
                    "va": "center_baseline",
                    "ha": "center",
                    "fontsize": 7.5,
                    "clip_on": True,
                }
                color = "white" if PALETTE[place] in _DARK else _INK
                axes.text(start + share / 2, entry[RANK], text, color=color, **style)
            start += share


def _span(explanation: Explanation) -> str:
    if TIMESTAMP not in explanation.history.columns:
        return "step of the history"
    first, last = (explanation.history[TIMESTAMP][place] for place in (0, -1))
    return f"step of the history, from {first:%Y-%m-%d} to {last:%Y-%m-%d}"


def _short(title: str, longest: int) -> str:
    title = " ".join(title.split())
    if longest < 2:
        return ""
    return title if len(title) <= longest else title[: longest - 1].rstrip() + "…"
