"""Scores of candidates after every prefix of packed sessions, one logit a factor."""

from typing import Any

import torch
from torch import Tensor

from mfgan.ops import autocast, checks, library, reference_score

_WHERE = "factor_score"
_DEVICES = library.devices(_WHERE) & library.devices(f"{_WHERE}_backward")
# Sizes whose float32 tiles fit into 99 KiB of a GPU's shared memory: heads no wider than the first,
# and either D or W no larger than the others.
_MOST_SHARED_HEAD, _MOST_SHARED_DIM, _MOST_SHARED_WIDTH = 64, 64, 256
_TABLES = ("query", "key", "value", "residual", "position_key", "position_value")
_WEIGHTS = (
    "out_weight",
    "ff1_weight",
    "ff1_bias",
    "ff2_weight",
    "ff2_bias",
    "head_weight",
    "head_bias",
)
_NUM_FLOATS = len(_TABLES) + len(_WEIGHTS)
_INDICES = ("history_rows", "candidate_rows", "positions", "cu_seqlens")


def factor_score(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    residual: Tensor,
    position_key: Tensor,
    position_value: Tensor,
    out_weight: Tensor,
    ff1_weight: Tensor,
    ff1_bias: Tensor,
    ff2_weight: Tensor,
    ff2_bias: Tensor,
    head_weight: Tensor,
    head_bias: Tensor,
    history_rows: Tensor,
    candidate_rows: Tensor,
    positions: Tensor,
    cu_seqlens: Tensor,
    max_history: int,
    *,
    num_heads: int,
    dropout_p: float = 0.0,
    rng: Tensor | None = None,
    site: int = 0,
    allow_tf32: bool = False,
) -> Tensor:
    """Judge candidates by the history before them, for every factor at once (MFGAN, section 4.2).

    One self-attention block read out at the candidate: it attends over itself (distance 0) and the
    last ``max_history`` tokens of its session up to the scored position (distances 1, 2, ...). What
    depends on an item alone comes in tables of ``U`` rows, what depends on a distance alone in
    tables of at least ``max_history + 1`` rows, so no prefix is ever expanded::

        logit_d = query[c] . (key[row_d] + position_key[d]) / sqrt(D / num_heads), per head
        o       = sum_d dropout(softmax(logit))_d (value[row_d] + position_value[d])
        h       = residual[c] + dropout(out_weight o)
        z       = h + dropout(ff2_weight relu(ff1_weight norm(h) + ff1_bias) + ff2_bias)
        logit   = head_weight . z + head_bias

    ``norm`` is a layer norm without scale and shift (they fold into ``ff1_weight`` and
    ``ff1_bias``), epsilon 1e-5. All floating tensors share one dtype and every one of them gets a
    gradient; half types are computed in float32 on a CPU, on a GPU by its tensor cores with sums in
    float32. There, float64 is left to plain PyTorch, ``D / num_heads`` is at most 128, ``D`` 256
    and ``W`` 1024.

    Args:
        query, key, value, residual: ``(F, U, D)`` item tables. The query has the candidate's
            position in it, key and value have none, the residual has the candidate's position and
            the bias of the output projection.
        position_key, position_value: ``(F, L, D)``, ``L > max_history``.
        out_weight: ``(F, D, D)``.
        ff1_weight, ff1_bias: ``(F, W, D)`` and ``(F, W)``.
        ff2_weight, ff2_bias: ``(F, D, W)`` and ``(F, D)``.
        head_weight, head_bias: ``(F, D)`` and ``(F,)``.
        history_rows: ``(total_tokens,)`` int64, the table row of each token.
        candidate_rows: ``(P, C)`` int64, the table rows of each scored position's candidates.
        positions: ``(P,)`` int64 token indices, in any order; the history of a position is its
            session up to and including this token.
        cu_seqlens: ``(num_sessions + 1,)`` int32, first 0, last ``total_tokens``, never decreasing.
        max_history: How many tokens back a candidate sees.
        num_heads: Divides ``D``.
        dropout_p: Drop probability of attention weights and of both residual branches.
        rng: ``(2,)`` int64, seed and offset; no dropout without it.
        site: First of the three places that draw: weights, output projection, feed-forward.
        allow_tf32: On a GPU, float32 products may round their factors to TF32, ten bits of
            mantissa, for the speed of its tensor cores. Torch's own switch is not asked. Other
            dtypes and devices take no notice.

    Returns:
        ``(P, C, F)`` logits in the dtype of ``query``; inside ``torch.autocast`` all is cast
        to its dtype on a GPU, to float32 on a CPU.

    Raises:
        ValueError: Shapes that do not fit each other, an index outside its table.
        TypeError: Dtypes other than the ones above.
    """
    if autocast.active(query):
        query, key, value, residual, position_key, position_value = autocast.as_scored(
            query, key, value, residual, position_key, position_value
        )
        out_weight, ff1_weight, ff1_bias, ff2_weight, ff2_bias, head_weight, head_bias = (
            autocast.as_scored(
                out_weight, ff1_weight, ff1_bias, ff2_weight, ff2_bias, head_weight, head_bias
            )
        )
    tables = (query, key, value, residual, position_key, position_value)
    weights = (out_weight, ff1_weight, ff1_bias, ff2_weight, ff2_bias, head_weight, head_bias)
    indices = (history_rows, candidate_rows, positions, cu_seqlens)
    _check_shapes((*tables, *weights, *indices), max_history, num_heads)
    _check_types((*tables, *weights), indices)
    checks.dropout(_WHERE, dropout_p, rng, query)
    if dropout_p == 0:
        rng = None
    large = _is_large(query.shape[-1], num_heads, ff1_weight.shape[1])
    if library.serves(_DEVICES, query, large=large):
        dtype = query.dtype if query.is_cuda else torch.promote_types(query.dtype, torch.float32)
        out: Tensor = torch.ops.mfgan.factor_score.default(
            *(x.to(dtype) for x in (*tables, *weights)),
            *indices,
            max_history,
            rng,
            num_heads=num_heads,
            dropout_p=dropout_p,
            site=site,
            allow_tf32=allow_tf32,
        )
        return out.to(query.dtype)
    _check_contents(*indices, query.shape[1])
    return reference_score.factor_score(
        *tables,
        *weights,
        *indices,
        max_history,
        num_heads=num_heads,
        dropout_p=dropout_p,
        rng=rng,
        site=site,
    )


def _is_large(dim: int, num_heads: int, width: int) -> bool:
    wide = dim > _MOST_SHARED_DIM and width > _MOST_SHARED_WIDTH
    return wide or dim // num_heads > _MOST_SHARED_HEAD


def _check_shapes(tensors: tuple[Tensor, ...], max_history: int, num_heads: int) -> None:
    named = dict(zip((*_TABLES, *_WEIGHTS, *_INDICES), tensors, strict=True))
    query, ff1_weight = named["query"], named["ff1_weight"]
    if query.dim() != 3:
        raise ValueError(f"{_WHERE}: query must be (F, U, D), got {checks.shape(query)}")
    if ff1_weight.dim() != 3:
        raise ValueError(f"{_WHERE}: ff1_weight must be (F, W, D), got {checks.shape(ff1_weight)}")
    factors, rows, dim = query.shape
    width, distances = ff1_weight.shape[1], named["position_key"].shape[1:2].numel()
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(_TABLES, (factors, rows, dim))
    expected |= dict.fromkeys(("position_key", "position_value"), (factors, distances, dim))
    expected |= {"out_weight": (factors, dim, dim), "ff1_weight": (factors, width, dim)}
    expected |= {"ff1_bias": (factors, width), "ff2_weight": (factors, dim, width)}
    expected |= {"ff2_bias": (factors, dim), "head_weight": (factors, dim), "head_bias": (factors,)}
    for name, shape in expected.items():
        if named[name].shape != shape:
            got = checks.shape(named[name])
            raise ValueError(f"{_WHERE}: {name} must be {shape}, got {got}")
    for name, ndim in zip(_INDICES, (1, 2, 1, 1), strict=True):
        if named[name].dim() != ndim:
            got = checks.shape(named[name])
            raise ValueError(f"{_WHERE}: {name} must have {ndim} dimensions, got {got}")
    scored, listed = named["positions"].shape[0], named["candidate_rows"].shape[0]
    if scored != listed:
        raise ValueError(
            f"{_WHERE}: candidate_rows must have a row for each of {scored} positions, got {listed}"
        )
    if named["cu_seqlens"].shape[0] < 1:
        raise ValueError(f"{_WHERE}: cu_seqlens must be (num_sessions + 1,), got (0,)")
    if num_heads < 1 or dim < 1 or dim % num_heads != 0:
        raise ValueError(f"{_WHERE}: num_heads must divide D = {dim}, got {num_heads}")
    if not 1 <= max_history < distances:
        raise ValueError(
            f"{_WHERE}: max_history must be from 1 to {distances - 1}, one less than the rows "
            f"of position_key, got {max_history}"
        )


def _check_types(floats: tuple[Tensor, ...], indices: tuple[Tensor, ...]) -> None:
    query = floats[0]
    checks.floating(_WHERE, "query", query)
    wanted = dict.fromkeys((*_TABLES, *_WEIGHTS), query.dtype) | dict.fromkeys(
        _INDICES, torch.int64
    )
    wanted["cu_seqlens"] = torch.int32
    for (name, want), tensor in zip(wanted.items(), (*floats, *indices), strict=True):
        checks.dtype(_WHERE, name, tensor, want)
        checks.device(_WHERE, name, tensor, query)


def _check_contents(
    history_rows: Tensor,
    candidate_rows: Tensor,
    positions: Tensor,
    cu_seqlens: Tensor,
    num_rows: int,
) -> None:
    total_tokens = history_rows.shape[0]
    checks.session_bounds(_WHERE, cu_seqlens, total_tokens)
    checks.below(_WHERE, "history_rows", history_rows, num_rows)
    checks.below(_WHERE, "candidate_rows", candidate_rows, num_rows)
    checks.below(_WHERE, "positions", positions, total_tokens)


def _fake(query: Tensor, *inputs: Any, **_keywords: Any) -> Tensor:
    candidate_rows = inputs[13]
    return query.new_empty((*candidate_rows.shape, query.shape[0]))


def _fake_backward(grad_out: Tensor, *inputs: Any, **_keywords: Any) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in inputs[:_NUM_FLOATS])


def _setup_context(ctx: Any, inputs: Any, keyword_only_inputs: Any, output: Any) -> None:
    *tensors, ctx.max_history, rng = inputs
    ctx.keywords = keyword_only_inputs
    ctx.save_for_backward(*tensors, rng)


def _backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
    *tensors, rng = ctx.saved_tensors
    grads = torch.ops.mfgan.factor_score_backward.default(
        grad_out, *tensors, ctx.max_history, rng, **ctx.keywords
    )
    return (*grads, *(None for _ in _INDICES), None, None)


if _DEVICES:
    torch.library.register_fake("mfgan::factor_score", _fake)
    torch.library.register_fake("mfgan::factor_score_backward", _fake_backward)
    torch.library.register_autograd("mfgan::factor_score", _backward, setup_context=_setup_context)
