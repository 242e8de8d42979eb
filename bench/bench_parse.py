"""Lines of Python dictionaries, as Steam's dumps are made of, against ``ast.literal_eval`` a line.

Both sides hold the text in memory and use one thread. Ours ends with a Polars frame of the columns
that the reader of ``--format steam`` asks for; the rival with a list of dictionaries.
"""

import ast
import gzip

import numpy as np
import pytest

from bench.common import real_data
from mfgan.data.readers import literals

REVIEWS = {"user": ("username", "text"), "item": ("product_id", "text"), "date": ("date", "text")}
GAMES = {
    **{name: (name, "text") for name in ("id", "title", "app_name", "developer", "publisher")},
    **{name: (name, "text") for name in ("sentiment", "release_date")},
    **{name: (name, "texts") for name in ("genres", "tags", "specs")},
    "price": ("price", "number"),
    "price_text": ("price", "text"),
}
WORDS = [
    "the",
    "and",
    "game",
    "is",
    "was",
    "very",
    "great",
    "play",
    "it",
    "again",
    "story",
    "hours",
    "bought",
    "really",
    "friends",
    "graphics",
    "for",
    "this",
    "you",
    "10/10",
    "don't",
    "good.\\n",
    "caf\\xe9",
    "\\u2665",
]
NUM_LINES = 200_000


def review_lines(count: int, seed: int = 0) -> list[str]:
    """Generated reviews with the keys of ``steam_reviews.json``."""
    rng = np.random.default_rng(seed)
    bounds = np.concatenate([[0], np.cumsum(rng.geometric(1 / 40, count))])
    words = rng.choice(WORDS, bounds[-1])
    lines = []
    for i, (user, item, day) in enumerate(rng.integers(1, [10**6, 10**5, 29], (count, 3))):
        text = " ".join(words[bounds[i] : bounds[i + 1]])
        quote = '"' if "'" in text else "'"
        lines.append(
            f"{{u'username': u'player {user}', u'hours': {user % 5000 / 10}, u'products': {i % 999}, "
            f"u'product_id': u'{item}', u'page_order': {i % 10}, u'date': u'2017-12-{day:02}', "
            f"u'text': u{quote}{text}{quote}, u'early_access': False, u'page': {i % 7}}}"
        )
    return lines


def game_lines() -> list[str]:
    """The real ``steam_games.json``."""
    return (
        gzip.decompress(real_data("steam/steam_games.json.gz").read_bytes()).decode().splitlines()
    )


@pytest.mark.skipif(literals.native() is None, reason="mfgan._native is not built")
@pytest.mark.parametrize(
    ("name", "make", "fields"),
    [
        ("parse-steam", lambda: review_lines(NUM_LINES), REVIEWS),
        ("parse-steam-games", game_lines, GAMES),
    ],
)
def test_parse(compare, name, make, fields):
    lines = make()
    text = "\n".join(lines).encode()
    assert literals.parse(text, fields).frame.height == len(lines)
    compare(
        name,
        lambda: literals.parse(text, fields),
        lambda: [ast.literal_eval(line) for line in lines],
        repeats=7,
    )
