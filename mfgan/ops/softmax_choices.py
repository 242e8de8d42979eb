"""The softmax in place, and log-probabilities of a few choices: entry point and shapes."""

import torch
from torch import Tensor

from mfgan.ops import checks, library, reference_softmax_choices

_WHERE = "softmax_choices"
_DEVICES = library.devices(_WHERE)


def softmax_choices(
    logits: Tensor, choices: Tensor, *, entropy: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Overwrite every row of logits by its softmax; say how likely some columns are.

    Args:
        logits: ``(num_rows, num_columns)`` float32, float64, bfloat16 or float16, changed in
            place. It has no gradient here.
        choices: ``(num_rows, num_choices)`` int64 columns of each row.
        entropy: Whether that of each row is wanted too.

    Returns:
        ``(num_rows, num_choices)`` log-probabilities of the choices and, where wanted,
        ``(num_rows,)`` entropies, float32 or, of float64, that; exact where the probability itself
        is too small for its dtype.

    Raises:
        ValueError: A shape, a device or a column is wrong.
        TypeError: A dtype is wrong.
    """
    checks.floating(_WHERE, "logits", logits)
    if logits.dim() != 2 or logits.shape[1] == 0:
        raise ValueError(
            f"{_WHERE}: logits must be (num_rows, num_columns) with a column, "
            f"got {checks.shape(logits)}"
        )
    checks.dtype(_WHERE, "choices", choices, torch.int64)
    checks.device(_WHERE, "choices", choices, logits)
    if choices.dim() != 2 or choices.shape[0] != logits.shape[0]:
        raise ValueError(
            f"{_WHERE}: choices must be ({logits.shape[0]}, num_choices), "
            f"got {checks.shape(choices)}"
        )
    if logits.device.type in _DEVICES:
        log_probs, found = torch.ops.mfgan.softmax_choices.default(logits, choices)
        return log_probs, found if entropy else None
    checks.below(_WHERE, "choices", choices, logits.shape[1])
    return reference_softmax_choices.softmax_choices(logits, choices, entropy=entropy)


def _fake(logits: Tensor, choices: Tensor) -> tuple[Tensor, Tensor]:
    wide = torch.float64 if logits.dtype == torch.float64 else torch.float32
    return choices.new_empty(choices.shape, dtype=wide), logits.new_empty(len(logits), dtype=wide)


if _DEVICES:
    torch.library.register_fake("mfgan::softmax_choices", _fake)
