"""Seeds for every draw of a run, derived from one; there is no global generator anywhere."""

import numpy as np


def derived_seed(*parts: int) -> int:
    """A seed of 62 bits that is a pure function of non-negative ``parts``."""
    words = np.random.SeedSequence(list(parts)).generate_state(2, np.uint32)
    return (int(words[0]) | int(words[1]) << 32) >> 2
