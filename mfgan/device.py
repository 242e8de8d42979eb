"""Where models compute."""

import torch

from mfgan.errors import MfganError


def find_device(name: str) -> torch.device:
    """The device of a name.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        MfganError: This torch has no such device.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise MfganError(f"device must be one torch has, got {name!r}: {reason}") from None
    return device
