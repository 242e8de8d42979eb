"""Where sizes may follow from values, and where they may not."""

import torch


def fixed_sizes(device: torch.device) -> bool:
    """Whether no size may depend on a value.

    Reading one back from a GPU makes the host wait for everything before it, and a step that does
    cannot be recorded; so there, more is computed than is needed.
    """
    return device.type != "cpu"
