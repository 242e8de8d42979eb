"""The panel of what each recommendation's score is made of: parts for it and parts against it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mfgan.models.generator import ITEM_ITSELF
from mfgan.recommend import RANK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mfgan.explain.explainer import Explanation

_ITSELF: Mapping[str, Any] = {"color": "white", "edgecolor": "#7F7F7F", "linewidth": 0.8}


def draw_score_parts(
    axes: "Axes",
    explanation: "Explanation",
    styles: Mapping[str, Mapping[str, Any]],
    labels: list[str],
) -> dict[str, Any]:
    """Draw a bar an item: what speaks for it to the right of zero, what against it to the left.

    Args:
        axes: Where to.
        explanation: Whose recommendations.
        styles: Of the factors' bars, by name.
        labels: Of the recommendations, in order.

    Returns:
        What a legend needs of each part, by name.
    """
    parts, ranks = explanation.score_parts, explanation.recommendations[RANK].to_numpy()
    handles = {}
    right, left = np.zeros(len(ranks)), np.zeros(len(ranks))
    for name, values in zip(parts.names, parts.values.T, strict=True):
        start = np.where(values > 0, right, left)
        style = _ITSELF if name == ITEM_ITSELF else styles[name]
        handles[name] = axes.barh(ranks, values, 0.78, left=start, **style)
        right += np.maximum(values, 0)
        left += np.minimum(values, 0)
    axes.axvline(0, color="#222222", linewidth=0.8)
    axes.set_yticks(ranks, labels)
    axes.set_ylim(len(ranks) + 0.5, 0.5)
    axes.set_title("What each score is made of, beyond that of an average candidate")
    axes.set_xlabel("for the item to the right, against it to the left")
    axes.tick_params(length=0)
    return handles
