"""Small made inputs of factor_score, and the same scores from whole sequences."""

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from mfgan.ops import factor_score

FLOATS = [
    "query",
    "key",
    "value",
    "residual",
    "position_key",
    "position_value",
    "out_weight",
    "ff1_weight",
    "ff1_bias",
    "ff2_weight",
    "ff2_bias",
    "head_weight",
    "head_bias",
]


@dataclass(frozen=True)
class ScoreInputs:
    floats: tuple[Tensor, ...]  # in the order of FLOATS
    indices: tuple[Tensor, ...]  # history_rows, candidate_rows, positions, cu_seqlens
    max_history: int
    num_heads: int

    def cast(self, dtype: torch.dtype) -> "ScoreInputs":
        floats = (x.detach().to(dtype).requires_grad_() for x in self.floats)
        return replace(self, floats=tuple(floats))

    def to(self, device: torch.device) -> "ScoreInputs":
        floats = (x.detach().to(device).requires_grad_() for x in self.floats)
        indices = (x.to(device) for x in self.indices)
        return replace(self, floats=tuple(floats), indices=tuple(indices))

    def swap(self, **tensors) -> "ScoreInputs":
        floats = dict(zip(FLOATS, self.floats, strict=True))
        names = ("history_rows", "candidate_rows", "positions", "cu_seqlens")
        indices = dict(zip(names, self.indices, strict=True))
        assert set(tensors) <= floats.keys() | indices.keys()
        floats |= {name: x for name, x in tensors.items() if name in floats}
        indices |= {name: x for name, x in tensors.items() if name in indices}
        return replace(self, floats=tuple(floats.values()), indices=tuple(indices.values()))

    def score(self, function=factor_score, **keywords) -> Tensor:
        keywords = {"num_heads": self.num_heads, **keywords}
        return function(*self.floats, *self.indices, self.max_history, **keywords)

    def score_and_grads(self, grad: Tensor, function=factor_score, **keywords) -> list[Tensor]:
        out = self.score(function, **keywords)
        return [out, *torch.autograd.grad(out, self.floats, grad.to(out.dtype))]


def make_inputs(
    lengths,
    num_candidates=2,
    *,
    factors=2,
    dim=6,
    width=5,
    heads=2,
    max_history=4,
    rows=9,
    positions=None,
    dtype=torch.float64,
    seed=0,
) -> ScoreInputs:
    """Normal numbers of unit scale; every token is scored unless positions are given."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape, fan_in=1):
        return torch.randn(*shape, generator=generator, dtype=dtype) / fan_in**0.5

    floats = [normal(factors, rows, dim) for _ in range(4)]
    floats += [normal(factors, max_history + 1, dim) for _ in range(2)]
    floats += [normal(factors, dim, dim, fan_in=dim)]
    floats += [normal(factors, width, dim, fan_in=dim), normal(factors, width)]
    floats += [normal(factors, dim, width, fan_in=width), normal(factors, dim)]
    floats += [normal(factors, dim), normal(factors)]
    cu_seqlens = torch.tensor([0, *lengths]).cumsum(0).int()
    total = sum(lengths)
    positions = torch.arange(total) if positions is None else torch.tensor(positions).long()
    history = torch.randint(rows, (total,), generator=generator)
    candidates = torch.randint(rows, (len(positions), num_candidates), generator=generator)
    indices = (history, candidates, positions, cu_seqlens)
    return ScoreInputs(tuple(x.requires_grad_() for x in floats), indices, max_history, heads)


@dataclass(frozen=True)
class Block:
    """One factor-specific discriminator as published: embeddings, positions and matrices."""

    items: Tensor  # (F, U, D)
    places: Tensor  # (F, L, D), 0 the candidate's
    wq: Tensor  # (F, D, D), as wk, wv
    wk: Tensor
    wv: Tensor
    rest: tuple[Tensor, ...]  # out_weight to head_bias

    def tables(self) -> tuple[Tensor, ...]:
        query = (self.items + self.places[:, :1]) @ self.wq
        residual = self.items + self.places[:, :1]
        return (
            query,
            self.items @ self.wk,
            self.items @ self.wv,
            residual,
            self.places @ self.wk,
            self.places @ self.wv,
            *self.rest,
        )


def expand_prefixes(block: Block, inputs: ScoreInputs) -> Tensor:
    """Every prefix as a sequence of its own, the whole block run over it, the last place read."""
    history, candidates, positions, cu_seqlens = inputs.indices
    num_heads = inputs.num_heads
    out_weight, ff1_weight, ff1_bias, ff2_weight, ff2_bias, head_weight, head_bias = block.rest
    scores = []
    for position, row in zip(positions.tolist(), candidates, strict=True):
        begin = int(cu_seqlens[cu_seqlens <= position].max())
        past = history[max(begin, position + 1 - inputs.max_history) : position + 1]
        for candidate in row:
            sequence = torch.cat([past, candidate[None]])
            x = block.items[:, sequence] + block.places[:, : len(sequence)].flip(1)
            q, k, v = (
                (x @ w).unflatten(-1, (num_heads, -1)).transpose(1, 2)
                for w in (block.wq, block.wk, block.wv)
            )
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            hidden = x + mixed @ out_weight.transpose(1, 2)
            normed = F.layer_norm(hidden, hidden.shape[-1:])
            inner = (normed @ ff1_weight.transpose(1, 2) + ff1_bias[:, None]).relu()
            hidden = hidden + inner @ ff2_weight.transpose(1, 2) + ff2_bias[:, None]
            scores.append((hidden[:, -1] * head_weight).sum(-1) + head_bias)
    return torch.stack(scores).unflatten(0, candidates.shape)
