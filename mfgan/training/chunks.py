"""How much of what would be ``(total_tokens, num_items)`` is held at once."""

import torch
from torch import Tensor

_ON_CPU = 1 << 18  # a few such blocks stay near a core while they are worked on
_OF_A_LOSS_ON_CPU = 1 << 20  # one such block does
_ON_GPU = 1 << 26  # enough to keep a GPU busy with one launch


def logits_at_once(device: torch.device) -> int:
    """Logits of all items for a few positions: how many numbers a block of them has."""
    return _ON_CPU if device.type == "cpu" else _ON_GPU


def even_chunks(num_rows: int, most: int) -> list[slice]:
    """Rows in as few parts of at most ``most`` as hold them, all about equally long.

    Matrix products of a few rows left over may depend on the number of threads.
    """
    count = max(1, -(-num_rows // max(1, most)))
    size = max(1, -(-num_rows // count))
    return [slice(first, min(first + size, num_rows)) for first in range(0, num_rows, size)]


def loss_chunks(hidden: Tensor, row_elements: int) -> list[slice]:
    """Rows of ``hidden`` for a loss that holds one block, of ``row_elements`` numbers a row."""
    elements = _OF_A_LOSS_ON_CPU if hidden.device.type == "cpu" else _ON_GPU
    return even_chunks(hidden.shape[0], elements // max(1, row_elements))
