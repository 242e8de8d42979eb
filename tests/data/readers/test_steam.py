"""Steam: reviews and games as lines of Python dictionaries."""

import gzip

import numpy as np
import pytest
from realdata import real_data

from mfgan.data.readers import literals, read_log
from mfgan.errors import MfganError

REVIEWS = r"""
{u'username': u'Chaos Syren', u'hours': 0.1, u'product_id': u'725280', u'date': u'2017-12-17'}
{u'username': u'\u2665 Ros\xe9', u'product_id': u'328100', u'date': u'2017-08-02', u'user_id': u'9'}

{u'text': u"it's", u'username': u'Chaos Syren', u'product_id': u'328100', u'date': u'2016-01-01'}
"""
ONE = (
    "{u'id': u'725280', u'app_name': u'One', u'title': u'One!', u'price': 4.99, u'tags': [], "
    "u'genres': [u'Action', u'Indie'], u'developer': u'Ann', u'publisher': u'', "
    "u'release_date': u'2018-01-04', u'sentiment': u'Mixed', u'specs': [u'VR']}"
)
GAMES = f"""\
{ONE}
{{u'id': u'328100', u'app_name': u'Two', u'price': u'Free To Play', u'release_date': u'Jun 2009'}}
{{u'id': u'328100', u'app_name': u'Two again', u'price': 7}}
{{u'title': u'no id', u'price': 19.99}}
{{u'id': u'3', u'price': u'Starting at $499.00'}}
{{u'id': u'4', u'price': u'Third-party', u'release_date': u'soon'}}
{{u'id': u'5', u'price': 0.99}}
"""


@pytest.fixture
def steam(tmp_path):
    (tmp_path / "steam_reviews.json").write_text(REVIEWS)
    (tmp_path / "steam_games.json.gz").write_bytes(gzip.compress(GAMES.encode()))
    return tmp_path


@pytest.fixture(params=["compiled", "python"])
def parser(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(literals, "native", lambda: None)
    elif literals.native() is None:
        pytest.skip("mfgan._native is not built")


@pytest.mark.usefixtures("parser")
def test_steam(steam):
    log = read_log(str(steam), format="steam")
    assert log.interactions.collect().rows() == [
        ("Chaos Syren", 725280, 1513468800000),
        ("♥ Rosé", 328100, 1501632000000),
        ("Chaos Syren", 328100, 1451606400000),
    ]
    items = log.items.collect()
    assert items["item_id"].to_list() == [725280, 328100, 3, 4, 5]
    assert items["title"].to_list() == ["One!", "Two", None, None, None]
    assert items["price"].to_list() == [4.99, 0.0, 499.0, None, 0.99]
    assert items["year"].to_list() == ["2018", "2009", None, None, None]
    first = items.row(0, named=True)
    assert (first["developer"], first["publisher"], first["sentiment"]) == ("Ann", None, "Mixed")
    assert (first["genre"], first["tags"], first["specs"]) == (["Action", "Indie"], [], ["VR"])
    assert list(log.attributes) == [
        "price",
        "developer",
        "publisher",
        "sentiment",
        "genre",
        "tags",
        "specs",
        "year",
    ]
    assert [(s.path, s.rows) for s in log.sources] == [
        ("steam_reviews.json", 3),
        ("steam_games.json.gz", 7),
    ]


@pytest.mark.parametrize(
    ("price", "label"),
    [
        (0.0, "free"),
        (0.49, "under 1"),
        (0.99, "under 1"),
        (1.0, "1 to 10"),
        (9.99, "1 to 10"),
        (10.0, "10 to 100"),
        (99.99, "10 to 100"),
        (100.0, "100 and over"),
        (995.0, "100 and over"),
    ],
)
def test_price_bins(steam, price, label):
    rule = read_log(str(steam), format="steam").attributes["price"]
    assert rule.kind == "binned"
    assert rule.labels[int((np.array(rule.edges) <= price).sum())] == label


def test_games_may_be_named_and_keys_mapped(steam, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    games = (steam / "steam_games.json.gz").rename(elsewhere / "games.json.gz")
    path = steam / "steam_reviews.json"
    assert read_log(str(path), format="steam").items is None
    log = read_log(
        str(path), format="steam", items=str(games), columns={"user_id": "user_id"}, max_bad_lines=2
    )
    assert log.items.collect().height == 5
    assert log.interactions.collect()["user_id"].to_list() == [9]


@pytest.mark.usefixtures("parser")
def test_bad_lines_are_numbered_in_the_file(steam):
    path = steam / "steam_reviews.json"
    path.write_text(REVIEWS + "{u'username': u'cut\n{u'username': u'a', u'date': u'2016-01-01'}\n")
    with pytest.raises(MfganError, match=r"line 6 of steam_reviews.json is not a record: "):
        read_log(str(path), format="steam")
    with pytest.raises(MfganError, match=r"line 7: item_id is empty; 2 in all"):
        read_log(str(path), format="steam", max_bad_lines=1)
    log = read_log(str(path), format="steam", max_bad_lines=2)
    assert log.interactions.collect().height == 3
    assert log.sources[0].bad_lines == 2


def test_other_bad_input(steam):
    reviews = steam / "steam_reviews.json"
    reviews.write_text("{'user': 'a', 'product_id': '1', 'date': '2016-01-01'}\n")
    with pytest.raises(MfganError, match="must have a text 'username' in its records, found none"):
        read_log(str(steam), format="steam")
    with pytest.raises(MfganError, match="must name user_id, item_id, timestamp, got rating"):
        read_log(str(steam), format="steam", columns={"rating": "hours"})
    reviews.write_text("")
    with pytest.raises(MfganError, match="must hold interactions, found none"):
        read_log(str(steam), format="steam")
    packed = steam / "steam_reviews.json.gz"
    packed.write_bytes(gzip.compress(REVIEWS.encode() * 200)[:-100])
    reviews.unlink()
    with pytest.raises(MfganError, match=r"steam_reviews.json.gz must be a whole gzip file"):
        read_log(str(steam), format="steam")
    packed.unlink()
    for name in ("steam_reviews_au.json", "steam_reviews_us.json"):
        (steam / name).write_text(REVIEWS)
    with pytest.raises(
        MfganError, match=r"one file of reviews, got steam_reviews_au.json, steam_rev"
    ):
        read_log(str(steam), format="steam")


def test_real_steam():
    log = read_log(str(real_data("steam")), format="steam")
    frame, items = log.interactions.collect(), log.items.collect()
    assert frame.height == 49_065
    assert items.height == 32_132
    assert items["sentiment"].n_unique() == 19
    assert items["price"].is_between(0, 1000).all()
