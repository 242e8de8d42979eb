"""Packed attention against everything else that PyTorch and flash-attn have for ragged batches.

All sides attend over the same values. A rival gets them laid out as it likes them best, and what
it needs to know of the lengths, before it is timed.
"""

from collections.abc import Callable
from functools import partial
from inspect import signature

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.gpu.cases import OURS, Builder, Case, Contender
from bench.gpu.machine import kernels
from bench.gpu.sessions import AttentionSizes, Sessions
from mfgan.ops import varlen_attention

_TOLERANCE = {torch.bfloat16: 2e-2, torch.float32: 2e-3}


_BF16, _F32 = torch.bfloat16, torch.float32
_SIZES = [
    AttentionSizes("ml-1m 200", "ml-1m", "ml-1m", 512, 200, 2, 32, _BF16),
    AttentionSizes("games 50", "games", "games", 2048, 50, 2, 32, _BF16),
    AttentionSizes("games 200", "games", "games", 2048, 200, 2, 32, _BF16),
    AttentionSizes("ml-1m 200 wide", "ml-1m", "ml-1m", 512, 200, 2, 64, _BF16),
    AttentionSizes("1,024 x 512", "long", "whole", 1024, 512, 2, 64, _BF16),
    AttentionSizes("ml-1m 200 float32", "ml-1m", "ml-1m", 512, 200, 2, 32, _F32),
    AttentionSizes("games 200 float32", "games", "games", 2048, 200, 2, 32, _F32),
]
_SMALL = [
    AttentionSizes("ml-1m 200", "ml-1m", "ml-1m", 4, 20, 2, 8, _F32),
    AttentionSizes("1,024 x 512", "long", "whole", 3, 16, 2, 8, _F32),
]


def attention_cases(device: torch.device, *, small: bool) -> list[Case]:
    """The comparisons, made when they are asked for.

    Args:
        device: Where they run.
        small: Sizes for a trial run.
    """
    return [_case(sizes, device) for sizes in (_SMALL if small else _SIZES)]


def _case(sizes: AttentionSizes, device: torch.device) -> Case:
    sessions = Sessions(sizes, device)
    contenders: dict[str, Builder] = {OURS: partial(_ours, sessions)}
    for name, make in _rivals(device, sizes.dtype).items():
        contenders[name] = partial(make, sessions)
    return Case(
        name=f"attention {sizes.name}",
        group=sizes.group,
        contenders=contenders,
        late=frozenset({"FlexAttention"}),
        exact=sessions.exact,
        tolerance=_TOLERANCE[sizes.dtype],
        facts={
            "sessions": sizes.num_sessions,
            "tokens": sessions.total,
            "padded_tokens": sizes.num_sessions * sessions.longest,
            "lengths": sessions.drawn_from,
            "heads": sizes.num_heads,
            "head_dim": sizes.head_dim,
            "dtype": str(sizes.dtype).removeprefix("torch."),
            "kernel": kernels(device.type)["varlen_attention"],
            "forward_operations": sessions.multiplications(),
        },
    )


def _rivals(device: torch.device, dtype: torch.dtype) -> dict[str, Callable[[Sessions], Contender]]:
    if device.type == "cpu":
        return {"padded SDPA": partial(_padded, None)}
    efficient = {"padded SDPA, memory-efficient": partial(_padded, SDPBackend.EFFICIENT_ATTENTION)}
    if dtype == torch.float32:
        return {**efficient, "FlexAttention": _flex}
    return {
        "padded SDPA, flash": partial(_padded, SDPBackend.FLASH_ATTENTION),
        "padded SDPA, cuDNN": partial(_padded, SDPBackend.CUDNN_ATTENTION),
        **efficient,
        "varlen_attn": _varlen,
        "nested SDPA": _nested,
        "flash-attn": _flash_attn,
        "FlexAttention": _flex,
    }


def _contender(
    attend: Callable[..., Tensor],
    inputs: list[Tensor],
    grad: Tensor,
    packed: Callable[[Tensor], Tensor],
) -> Contender:
    leaves = [x.detach().requires_grad_() for x in inputs]

    def forward() -> Tensor:
        with torch.no_grad():
            return attend(*leaves)

    def train() -> tuple[Tensor, ...]:
        return torch.autograd.grad(attend(*leaves), leaves, grad)

    runs = {"forward": forward, "forward + backward": train}
    return Contender(runs, result=lambda: packed(forward()))


def _ours(sessions: Sessions) -> Contender:
    *inputs, grad = sessions.packed.unbind(1)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return varlen_attention(q, k, v, sessions.cu_seqlens, sessions.longest)

    return _contender(attend, inputs, grad, sessions.checked)


def _padded(backend: SDPBackend | None, sessions: Sessions) -> Contender:
    *inputs, grad = sessions.padded()

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        if backend is None:
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        with sdpa_kernel(backend):
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)

    def packed(out: Tensor) -> Tensor:
        return sessions.checked(sessions.unpadded(out))

    return _contender(attend, inputs, grad, packed)


def _varlen(sessions: Sessions) -> Contender:
    from torch.nn.attention.varlen import varlen_attn

    # Causality is a flag in one release and a window in the next.
    flag = "is_causal" in signature(varlen_attn).parameters
    causal = {"is_causal": True} if flag else {"window_size": (-1, 0)}
    bounds, longest = sessions.cu_seqlens, sessions.longest

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return varlen_attn(q, k, v, bounds, bounds, longest, longest, **causal)

    *inputs, grad = (x.contiguous() for x in sessions.packed.unbind(1))
    return _contender(attend, inputs, grad, sessions.checked)


def _nested(sessions: Sessions) -> Contender:
    *inputs, grad = (x.contiguous() for x in sessions.packed.unbind(1))
    shortest = int(sessions.lengths.min())

    def nested(x: Tensor) -> Tensor:
        made = torch.nested.nested_tensor_from_jagged(
            x, sessions.offsets, min_seqlen=shortest, max_seqlen=sessions.longest
        )
        return made.transpose(1, 2)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = F.scaled_dot_product_attention(nested(q), nested(k), nested(v), is_causal=True)
        return out.transpose(1, 2).values()

    return _contender(attend, inputs, grad, sessions.checked)


def _flash_attn(sessions: Sessions) -> Contender:
    from flash_attn import flash_attn_varlen_func

    bounds, longest = sessions.cu_seqlens, sessions.longest

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return flash_attn_varlen_func(q, k, v, bounds, bounds, longest, longest, causal=True)

    *inputs, grad = (x.contiguous() for x in sessions.packed.unbind(1))
    return _contender(attend, inputs, grad, sessions.checked)


def _flex(sessions: Sessions) -> Contender:
    from torch.nn.attention.flex_attention import create_block_mask, flex_attention

    torch._dynamo.reset()  # a size more than its limit, and it would run uncompiled
    session = sessions.places[0]

    def same_and_before(_batch: Tensor, _head: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (session[q] == session[k]) & (q >= k)

    total = sessions.total
    mask = create_block_mask(
        same_and_before, None, None, total, total, device=sessions.device, _compile=True
    )
    compiled = torch.compile(flex_attention, dynamic=False)

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return compiled(q, k, v, block_mask=mask)

    def packed(out: Tensor) -> Tensor:
        return sessions.checked(out[0].transpose(0, 1))

    parts = (x.transpose(0, 1)[None].contiguous() for x in sessions.packed.unbind(1))
    *inputs, grad = parts
    return _contender(attend, inputs, grad, packed)
