"""The rivals of factor_score in plain PyTorch: prefixes shared, and every prefix expanded."""

import math
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass
class Tower:
    """One block of every factor's discriminator over ``(num_factors, num_items, dim)`` vectors."""

    items: Tensor
    places: Tensor  # (num_factors, max_history + 1, dim), 0 the candidate's
    query_weight: Tensor
    query_bias: Tensor
    key_weight: Tensor
    value_weight: Tensor
    out_weight: Tensor
    out_bias: Tensor
    ff1_weight: Tensor
    ff1_bias: Tensor
    ff2_weight: Tensor
    ff2_bias: Tensor
    head_weight: Tensor
    head_bias: Tensor

    def leaves(self) -> list[Tensor]:
        return [getattr(self, field.name) for field in fields(self)]

    def tables(self) -> tuple[Tensor, ...]:
        """Per item query, key, value and residual, per distance key and value."""
        placed = self.items + self.places[:, :1]
        return (
            torch.baddbmm(self.query_bias.unsqueeze(1), placed, self.query_weight.mT),
            self.items @ self.key_weight.mT,
            self.items @ self.value_weight.mT,
            placed + self.out_bias.unsqueeze(1),
            self.places @ self.key_weight.mT,
            self.places @ self.value_weight.mT,
        )


def make_tower(
    num_factors: int,
    num_items: int,
    dim: int,
    max_history: int,
    seed=0,
    device="cpu",
    dtype=torch.float32,
) -> Tower:
    generator = torch.Generator().manual_seed(seed)

    def weight(*shape: int) -> Tensor:
        x = torch.randn(num_factors, *shape, generator=generator) / math.sqrt(dim)
        return x.to(device, dtype).requires_grad_()

    square = {name: weight(dim, dim) for name in ("query", "key", "value", "out", "ff1", "ff2")}
    return Tower(
        items=weight(num_items, dim),
        places=weight(max_history + 1, dim),
        **{f"{name}_weight": x for name, x in square.items()},
        **{f"{name}_bias": weight(dim) for name in ("query", "out", "ff1", "ff2")},
        head_weight=weight(dim),
        head_bias=weight(),
    )


def quick_dropout(x: Tensor, p: float) -> Tensor:
    """Dropout by random bytes: on a CPU some five times as fast as ``F.dropout``.

    Exact where ``256 * p`` is whole.
    """
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    kept = torch.empty(x.shape, dtype=torch.uint8).random_(256) >= round(256 * p)
    return x * kept * (1 / (1 - p))


def feed_forward(tower: Tower, mixed: Tensor, residual: Tensor, p: float) -> Tensor:
    """``(num_factors, rows, dim)`` attention outputs and residuals to ``(num_factors, rows)``."""
    hidden = residual + quick_dropout(torch.bmm(mixed, tower.out_weight.mT), p)
    normed = F.layer_norm(hidden, hidden.shape[-1:])
    inner = torch.baddbmm(tower.ff1_bias.unsqueeze(1), normed, tower.ff1_weight.mT).relu()
    outer = torch.baddbmm(tower.ff2_bias.unsqueeze(1), inner, tower.ff2_weight.mT)
    hidden = hidden + quick_dropout(outer, p)
    return torch.baddbmm(
        tower.head_bias.view(-1, 1, 1), hidden, tower.head_weight.unsqueeze(-1)
    ).squeeze(-1)


def _distances_to_keys(x: Tensor) -> Tensor:
    """``(..., t, r)`` to ``(..., t, j)``, ``j = r + t + 1 - n``: a shear, as in Transformer-XL.

    What a row does not reach is left as it comes, to be masked.
    """
    n = x.shape[-1]
    return F.pad(x, (1, 0)).flatten(-2)[..., n:].unflatten(-1, (n, n))


def _keys_to_distances(x: Tensor) -> Tensor:
    """The way back, for rows that are zero past their own key."""
    n = x.shape[-1]
    return F.pad(x.flatten(-2), (n, 0)).unflatten(-1, (n, n + 1))[..., 1:]


def shared_scores(
    tower: Tower, history: Tensor, candidates: Tensor, num_heads: int, dropout_p: float
) -> Tensor:
    """Scores of candidates after every prefix of sessions of one length.

    Keys and values are shared by all prefixes and candidates, the distance's part of a logit is a
    product of its own.

    Args:
        tower: Of every factor.
        history: ``(num_sessions, length)`` item_idx.
        candidates: ``(num_sessions, length, num_candidates)``.
        num_heads: Divides dim.
        dropout_p: Of attention weights and both residual branches.

    Returns:
        ``(num_sessions * length, num_candidates, num_factors)``.
    """
    query, key, value, residual, place_key, place_value = tower.tables()
    factors, _, dim = query.shape
    sessions, length, count = candidates.shape
    scale = (dim // num_heads) ** -0.5

    def heads(x: Tensor) -> Tensor:  # (factors, heads, ..., head_dim)
        return x.unflatten(-1, (num_heads, -1)).movedim(-2, 1)

    # The logit of a candidate with itself and its own value depend on the item alone.
    own_logit = (heads(query) * heads(key + place_key[:, :1])).sum(-1) * scale
    own_value = value + place_value[:, :1]
    by_candidate = candidates.transpose(1, 2)  # positions side by side, for the shear
    q = (heads(query[:, by_candidate]) * scale).contiguous()  # (f, h, s, c, t, e)
    k = heads(key[:, history]).unsqueeze(3)  # (f, h, s, 1, j, e)
    v = heads(value[:, history]).unsqueeze(3)
    far = slice(1, length + 1)
    far_key = heads(place_key[:, far].flip(1)).flatten(0, 1)  # (f h, r, e)
    far_value = heads(place_value[:, far].flip(1)).flatten(0, 1)
    shape = (*q.shape[:-1], length)
    by_distance = torch.bmm(q.view(len(far_key), -1, q.shape[-1]), far_key.mT).view(shape)
    past = q @ k.mT + _distances_to_keys(by_distance)
    future = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
    past = past.masked_fill(future, -math.inf)
    own = own_logit[:, :, by_candidate].unsqueeze(-1)
    weights = quick_dropout(torch.cat([past, own], -1).softmax(-1), dropout_p)
    past, own = weights[..., :-1], weights[..., -1:]
    sheared = _keys_to_distances(past).flatten(2, -2).flatten(0, 1)
    mixed = past @ v + torch.bmm(sheared, far_value).view(q.shape)
    mixed = mixed + own * heads(own_value[:, by_candidate])
    mixed = mixed.permute(0, 2, 4, 3, 1, 5).reshape(factors, -1, dim)  # (f, s t c, h e)
    scores = feed_forward(tower, mixed, residual[:, candidates.flatten()], dropout_p)
    return scores.mT.unflatten(0, (sessions * length, count))


def expanded_scores(
    tower: Tower,
    factor: int,
    history: Tensor,
    candidates: Tensor,
    num_heads: int,
    dropout_p: float,
) -> Tensor:
    """The same for one factor, every prefix a padded sequence of its own that ends in a candidate.

    The whole block runs over every sequence, as in the code published with MFGAN, and the last
    place is read. Returns ``(num_sessions * length, num_candidates)``.
    """
    one = Tower(*(x[factor : factor + 1] for x in tower.leaves()))
    sessions, length, count = candidates.shape
    back = torch.arange(length).unsqueeze(1) - torch.arange(length - 1, -1, -1)  # (t, place)
    prefixes = history[:, back.clamp(min=0)].unsqueeze(2).expand(-1, -1, count, -1)
    sequences = torch.cat([prefixes, candidates.unsqueeze(-1)], -1).flatten(0, 2)
    padding = F.pad(back < 0, (0, 1)).repeat(sessions, 1).repeat_interleave(count, 0)
    x = one.items[0][sequences] + one.places[0].flip(0)
    q = x @ one.query_weight[0].T + one.query_bias[0]
    k, v = x @ one.key_weight[0].T, x @ one.value_weight[0].T
    q, k, v = (y.unflatten(-1, (num_heads, -1)).transpose(1, 2) for y in (q, k, v))
    logits = q @ k.mT * q.shape[-1] ** -0.5
    weights = logits.masked_fill(padding[:, None, None], -math.inf).softmax(-1)
    mixed = (F.dropout(weights, dropout_p) @ v).transpose(1, 2).flatten(2)
    out = mixed @ one.out_weight[0].T + one.out_bias[0]
    hidden = x + F.dropout(out, dropout_p)
    normed = F.layer_norm(hidden, hidden.shape[-1:])
    inner = (normed @ one.ff1_weight[0].T + one.ff1_bias[0]).relu()
    outer = inner @ one.ff2_weight[0].T + one.ff2_bias[0]
    hidden = hidden + F.dropout(outer, dropout_p)
    scores = hidden[:, -1] @ one.head_weight[0] + one.head_bias[0]
    return scores.view(-1, count)
