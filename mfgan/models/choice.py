"""How utilities become a choice: softmax or sparsemax over a display and the option of no click."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mfgan.ops.choice import choice_logsumexp

Rule = Literal["softmax", "sparsemax"]


@dataclass(frozen=True)
class Choice:
    """Choice probabilities of displays.

    Args:
        rows: ``(num_rows,)`` of each displayed row.
        none: ``(num_events,)`` of no click.
    """

    rows: Tensor
    none: Tensor


def choose(
    utilities: Tensor, offsets: Tensor, events: Tensor, *, rule: Rule = "softmax", eta: float = 1.0
) -> Choice:
    """``argmax_φ E_φ[r] - R(φ) / η`` over each display and no click of utility 0.

    With Shannon's entropy for R that is ``softmax(η r)``, with ``½ ‖φ‖²`` it is ``sparsemax(η r)``
    (Chen et al., ICML 2019, lemma 1 and section 3; Martins and Astudillo, ICML 2016).

    Args:
        utilities: ``(num_rows,)`` r.
        offsets: ``(num_events + 1,)`` int64 bounds of the displays.
        events: ``(num_rows,)`` int64 display of each row.
        rule: ``softmax`` or ``sparsemax``.
        eta: η.

    Returns:
        Probabilities that sum to 1 with that of no click.
    """
    scaled = utilities * eta
    if rule == "softmax":
        total = choice_logsumexp(scaled, offsets)
        return Choice((scaled - total[events]).exp(), (-total).exp())
    top = _largest(scaled, offsets, events)
    scaled = scaled - top[events]
    threshold = _sparsemax_threshold(scaled, -top, offsets, events)
    return Choice((scaled - threshold[events]).clamp_min(0), (-top - threshold).clamp_min(0))


def _largest(utilities: Tensor, offsets: Tensor, events: Tensor) -> Tensor:
    """``(num_events,)`` the largest utility of each display and no click, a constant.

    Sparsemax is that of the utilities less this, whose sums with numbers near 1 round nothing off.
    """
    zeros = utilities.new_zeros(len(offsets) - 1)
    return zeros.scatter_reduce(0, events, utilities.detach(), "amax")


def _padded(utilities: Tensor, none: Tensor, offsets: Tensor, events: Tensor) -> Tensor:
    """``(num_events, widest + 1)``: no click first, then the rows, -inf where there is none."""
    sizes = offsets.diff()
    widest = int(sizes.max()) if len(sizes) else 0
    place = torch.arange(len(utilities), device=utilities.device) - offsets[events]
    table = utilities.new_full((len(sizes), widest + 1), -torch.inf)
    table[:, 0] = none
    return table.index_put((events, place + 1), utilities)


def _sparsemax_threshold(
    utilities: Tensor, none: Tensor, offsets: Tensor, events: Tensor
) -> Tensor:
    """``(num_events,)`` τ with ``Σ max(u - τ, 0) = 1`` over each display and no click."""
    ordered = _padded(utilities, none, offsets, events).sort(dim=1, descending=True).values
    finite = ordered.isfinite()
    total = torch.where(finite, ordered, 0.0).cumsum(1)
    rank = torch.arange(1, ordered.shape[1] + 1, device=utilities.device, dtype=ordered.dtype)
    in_support = finite & (1 + rank * ordered > total)
    support = in_support.sum(1)
    # Where a utility is NaN or infinite nothing is in the support, and all becomes NaN.
    last = (support - 1).clamp_min(0)
    return (total.gather(1, last[:, None])[:, 0] - 1) / support


def _of_clicks(values: Tensor, clicks: Tensor) -> Tensor:
    """``(num_events,)`` the value of the clicked row, 0 for no click."""
    if len(values) == 0:
        return values.new_zeros(len(clicks))
    return torch.where(clicks >= 0, values[clicks.clamp_min(0)], 0.0)


def shannon_loss(utilities: Tensor, offsets: Tensor, clicks: Tensor, *, eta: float = 1.0) -> Tensor:
    """``(num_events,)`` negative log-likelihood ``log(1 + Σ exp ηr) - ηr(click)``.

    Args:
        utilities: ``(num_rows,)``.
        offsets: ``(num_events + 1,)`` int64.
        clicks: ``(num_events,)`` int64 row of the click, -1 for none.
        eta: η.
    """
    scaled = utilities * eta
    return choice_logsumexp(scaled, offsets) - _of_clicks(scaled, clicks)


def sparsemax_loss(
    utilities: Tensor, offsets: Tensor, events: Tensor, clicks: Tensor, *, eta: float = 1.0
) -> Tensor:
    """``(num_events,)`` what the minimax leaves with ``R = ½ ‖φ‖²`` once φ is its optimum.

    ``max_φ (η E_φ[r] - ½ ‖φ‖²) - η r(click) + ½``: the sparsemax loss, 0 where the click has
    probability 1. Its gradient is ``η (φ - click)``, which autograd finds by the envelope theorem.

    Args:
        utilities: ``(num_rows,)``.
        offsets: ``(num_events + 1,)`` int64.
        events: ``(num_rows,)`` int64.
        clicks: ``(num_events,)`` int64 row of the click, -1 for none.
        eta: η.
    """
    with torch.no_grad():
        best = choose(utilities, offsets, events, rule="sparsemax", eta=eta)
    scaled = utilities * eta
    top = _largest(scaled, offsets, events)
    scaled = scaled - top[events]
    gain = _sum(best.rows * scaled, events, len(clicks)) - best.none * top
    spread = _sum(best.rows.square(), events, len(clicks)) + best.none.square()
    clicked = torch.where(clicks >= 0, _of_clicks(scaled, clicks), -top)
    return gain - spread / 2 - clicked + 0.5


def _sum(values: Tensor, events: Tensor, num_events: int) -> Tensor:
    return values.new_zeros(num_events).index_add(0, events, values)


def expected_reward(choice: Choice, utilities: Tensor, events: Tensor) -> Tensor:
    """``(num_events,)`` ``E_φ[r]``; no click gives 0."""
    return _sum(choice.rows * utilities, events, len(choice.none))


def regularizer(choice: Choice, events: Tensor, rule: Rule) -> Tensor:
    """``(num_events,)`` R(φ) with no click among the options: ``Σ φ log φ`` or ``½ ‖φ‖²``."""
    if rule == "sparsemax":
        return (_sum(choice.rows.square(), events, len(choice.none)) + choice.none.square()) / 2
    rows = _sum(torch.special.xlogy(choice.rows, choice.rows), events, len(choice.none))
    none: Tensor = torch.special.xlogy(choice.none, choice.none)
    return rows + none
