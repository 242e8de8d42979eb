"""Names that settings, data and models share; nothing of the package is imported here."""

from collections.abc import Sequence

ID = "id"  # the factor that is the item itself

TRANSITION, SIMILARITY = "transition", "similarity"
RELATIONS = (TRANSITION, SIMILARITY)
MOST_SIMILAR = 20_000  # items: a square of this many float32 is 1.6 GB


def relations_of(named: Sequence[str], num_items: int) -> tuple[str, ...]:
    """The relations that are named; of "all" no similarity where the catalogue is too large."""
    if named != "all":
        return tuple(named)
    return tuple(name for name in RELATIONS if name != SIMILARITY or num_items <= MOST_SIMILAR)
