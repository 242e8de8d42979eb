"""Candidate scores of every factor against the same in PyTorch, compiled and not.

All sides start from item vectors and weights. The rival shares keys and values among prefixes and
candidates by matrix products; it never writes a prefix out.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from bench.gpu.cases import OURS, Case, Contender
from bench.gpu.machine import kernels
from bench.plain_score import Tower, make_tower, shared_scores
from bench.score_input import draw_items, kernel_scores

_DROPOUT = 0.25
_NUM_HEADS = 2
_NAMES = {torch.float32: "float32", torch.bfloat16: "bf16"}
_TOLERANCE = {torch.float32: 2e-3, torch.bfloat16: 5e-2}


class Judged:
    """Towers, sessions of one length, and candidates at each of their positions."""

    def __init__(
        self,
        num_sessions: int,
        length: int,
        num_candidates: int,
        dim: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        num_items = 3417
        self.tower = make_tower(4, num_items, dim, length, device=device, dtype=dtype)
        self.history = draw_items(num_items, num_sessions, length, seed=1).to(device)
        drawn = draw_items(num_items, num_sessions, length, num_candidates, seed=2)
        self.candidates = drawn.to(device)
        self.rng = torch.tensor([3, 4], device=device)

    def exact(self) -> Tensor:
        """Scores of the first sessions in float64."""
        wide = Tower(*(x.detach().double() for x in self.tower.leaves()))
        return shared_scores(wide, self.history[:2], self.candidates[:2], _NUM_HEADS, 0.0)


def score_cases(device: torch.device, *, small: bool) -> list[Case]:
    """The comparisons.

    Args:
        device: Where they run.
        small: Sizes for a trial run.
    """
    sessions, length, dim = (3, 6, 8) if small else (128, 50, 50)
    made = [(1, torch.float32), (11, torch.float32)]
    if device.type == "cuda":
        made += [(1, torch.bfloat16), (11, torch.bfloat16)]
    return [
        _case(Judged(sessions, length, count, dim, device, dtype), small) for count, dtype in made
    ]


def _case(judged: Judged, small: bool) -> Case:
    count, dtype = judged.candidates.shape[-1], judged.tower.items.dtype
    rivals = {"PyTorch": partial(_rival, judged, compiled=False)}
    if not small:
        rivals["compiled PyTorch"] = partial(_rival, judged, compiled=True)
    return Case(
        name=f"factor_score, {count} candidate{'s' if count > 1 else ''}, {_NAMES[dtype]}",
        group="score",
        contenders={OURS: partial(_ours, judged), **rivals},
        late=frozenset({"compiled PyTorch"}),
        exact=judged.exact,
        tolerance=_TOLERANCE[dtype],
        facts={
            "sessions": len(judged.history),
            "length": judged.history.shape[1],
            "candidates": count,
            "factors": len(judged.tower.items),
            "hidden_dim": judged.tower.items.shape[-1],
            "dtype": _NAMES[dtype],
            "dropout": _DROPOUT,
            "kernel": kernels(judged.history.device.type)["factor_score"],
        },
    )


def _ours(judged: Judged) -> Contender:
    return _contender(judged, partial(kernel_scores, rng=judged.rng))


def _rival(judged: Judged, *, compiled: bool) -> Contender:
    if not compiled:
        return _contender(judged, shared_scores)
    torch._dynamo.reset()
    # What it computes is checked uncompiled: other sizes would be compiled anew.
    return replace(_contender(judged, torch.compile(shared_scores)), result=None)


def _contender(judged: Judged, scores: Callable[..., Tensor]) -> Contender:
    tower, history, candidates = judged.tower, judged.history, judged.candidates

    def forward() -> Tensor:
        with torch.no_grad():
            return scores(tower, history, candidates, _NUM_HEADS, _DROPOUT)

    def train() -> tuple[Tensor, ...]:
        out = scores(tower, history, candidates, _NUM_HEADS, _DROPOUT)
        return torch.autograd.grad(out.sum(), tower.leaves())

    def result() -> Tensor:
        with torch.no_grad():
            return scores(tower, history[:2], candidates[:2], _NUM_HEADS, 0.0)

    return Contender({"forward": forward, "forward + backward": train}, result)
