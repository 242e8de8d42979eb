"""Names that settings, data and models share; nothing is imported here."""

ID = "id"  # the factor that is the item itself

TRANSITION, SIMILARITY = "transition", "similarity"
RELATIONS = (TRANSITION, SIMILARITY)
MOST_SIMILAR = 20_000  # items: a square of this many float32 is 1.6 GB
