import numpy as np
import polars as pl
import pytest
from made_displays import lines_of, write_authors
from realdata import real_data

from mfgan.data.displays import prepare_displays
from mfgan.data.displays.readers import READERS, DisplayRequest
from mfgan.data.displays.sampled import fill_from_pools
from mfgan.errors import MfganError

GOOD = lines_of([(0, 0, [1, 2], 2, 0), (0, 1, [3], 3, 0), (1, 2, [1, 3], 1, 1), (2, 3, [2], 2, 2)])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["u0\t0\ti\t0\t0\t0\t\t0"], "row 8: display 0 of user 0 must have items, found none"),
        (lines_of([(0, 0, [1], 1, 0)]), "row 8: display 0 of user 0 has a second click, on item 1"),
        (["u0\t0\ti\t2\t0\t0\t5\t0"], "row 8: click must be 0 or 1, got 2"),
        (lines_of([(5, 9, [1], 1, 3)]), "row 8: the split tag must be 0 .* got 3"),
        (lines_of([(0, 9, [1], 1, 2)]), "row 8: user 0 must be in one part"),
        (["u0\t0\ti\t0\t0\tx\t1\t0"], "row 8: user_id must be an integer, got 'x'"),
        (["u0\t0\ti\t0\t0\t\t1\t0"], "row 8: a row must name its user and display"),
        (["u0\t0"], "must be a table of equal rows"),
    ],
)
def test_a_bad_row_is_named(tmp_path, rows, message):
    source = write_authors(tmp_path / "log.txt", [*GOOD, *rows])
    if message.startswith("must be a table"):
        source.write_text(source.read_text().replace("u0\t0\n", "u0\t0\t1\t1\t1\t1\t1\t1\t1\n"))
    with pytest.raises(MfganError, match=message):
        prepare_displays(source, tmp_path / "out", format="displays-authors")
    assert not (tmp_path / "out").exists()


def test_bad_displays_are_left_out_and_counted(tmp_path):
    rows = [*GOOD, *lines_of([(0, 0, [1], 1, 0)])]
    source = write_authors(tmp_path / "log.txt", rows)
    data = prepare_displays(source, tmp_path / "out", format="displays-authors", drop_bad=True)
    assert data.num_events == 3
    assert data.manifest["rules"]["left_out"] == {"second-click": 1}


def test_two_clicks_become_two_events_on_demand(tmp_path):
    rows = [*GOOD, *lines_of([(0, 0, [1], 1, 0)])]
    source = write_authors(tmp_path / "log.txt", rows)
    data = prepare_displays(source, tmp_path / "out", format="displays-authors", clicks="split")
    assert data.num_events == 5
    first = data.items[data.offsets[0] : data.offsets[2]].tolist()
    assert first == [1, 2, 1, 2]
    assert data.clicks[:2].tolist() == [0, 1]
    assert data.clicked[:4].tolist() == [True] * 4


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"format": "displays-author"}, "did you mean 'displays-authors'"),
        ({"format": "displays-authors", "clicks": "many"}, "--clicks must be one or split"),
        ({"format": "displays-authors", "fractions": (0.5, 0.5, 0.5)}, "shares of 1"),
        ({"format": "displays-table"}, "must have the column 'display_id', got SessionId"),
        ({"format": "displays-table", "columns": {"clik": "x"}}, "did you mean 'click'"),
    ],
)
def test_wrong_arguments(tmp_path, arguments, message):
    source = write_authors(tmp_path / "log.txt", GOOD)
    with pytest.raises(MfganError, match=message):
        prepare_displays(source, tmp_path / "out", **arguments)


@pytest.mark.parametrize("text", ["", "a\tb\n"])
def test_an_empty_source(tmp_path, text):
    (tmp_path / "log.txt").write_text(text)
    with pytest.raises(MfganError, match="must have rows, found none"):
        prepare_displays(tmp_path / "log.txt", tmp_path / "out", format="displays-authors")


def test_mind(tmp_path):
    (tmp_path / "behaviors.tsv").write_text(
        "1\tU1\t11/11/2019 9:05:58 AM\tN9\tN1-0 N2-1 N3-1\n"
        "2\tU1\t11/11/2019 8:05:58 AM\t\tN2-0 N4-0\n"
        "3\tU2\t11/12/2019 8:05:58 PM\t\tN1-1\n"
    )
    data = prepare_displays(tmp_path, tmp_path / "out", format="displays-mind")
    assert data.num_events == 4
    assert data.clicks.tolist() == [-1, 1, 2, 0]  # earlier first, the two clicks apart
    assert data.positions.tolist() == [1, 2, 1, 2, 3, 1, 2, 3, 1]
    assert data.timestamps[1] - data.timestamps[0] == 3_600_000
    (tmp_path / "behaviors.tsv").write_text("1\tU1\t11/11/2019 9:05:58 AM\tN9\tN1-0 N2\n")
    with pytest.raises(MfganError, match="row 1: display 1 of user U1 must have items"):
        prepare_displays(tmp_path, tmp_path / "bad", format="displays-mind")


def test_open_bandit(tmp_path):
    head = "timestamp,item_id,position,click,propensity_score,user_feature_0\n"
    log = tmp_path / "men.csv"
    log.write_text(
        head + "2019-11-24 00:00:01.5+00:00,14,3,0,0.25,a\n2019-11-24 00:00:00+00:00,7,1,1,0.5,a\n"
    )
    data = prepare_displays(log, tmp_path / "out", format="displays-open-bandit")
    assert data.clicks.tolist() == [0, -1]
    assert data.propensities.tolist() == [0.5, 0.25]
    assert data.timestamps[1] - data.timestamps[0] == 1500
    log.write_text(head + "2019-11-24 00:00:01+00:00,14,3,0,0,a\n")
    with pytest.raises(MfganError, match=r"row 2: propensity_score must be within \(0, 1\]"):
        prepare_displays(log, tmp_path / "bad", format="displays-open-bandit")


@pytest.mark.parametrize(
    ("format", "lines", "message"),
    [
        (
            "mind",
            "1\tU\t13/11/2019 9:05:58 AM\t\tN1-1",
            "the time must be like .*, got '13/11/2019 9:05:",
        ),
        ("mind", "1\tU\t\t\tN1-1", "the time must be like 11/11/2019 9:05:58 AM, got ''"),
        ("open-bandit", "soon,1,1,0,0.5", "timestamp must be a number or an ISO date, got 'soon'"),
        ("open-bandit", ",1,1,0,0.5", "must have a timestamp"),
    ],
)
def test_a_time_that_cannot_be_read_is_named(tmp_path, format, lines, message):
    good = {
        "mind": "1\tU\t11/11/2019 9:05:58 AM\t\tN1-1\n",
        "open-bandit": "timestamp,item_id,position,click,propensity_score\n",
    }
    (tmp_path / "log").write_text(f"{good[format]}{lines}\n")
    with pytest.raises(MfganError, match=f"^log: row 2: {message}"):
        prepare_displays(tmp_path / "log", tmp_path / "out", format=f"displays-{format}")
    assert not (tmp_path / "out").exists()


def test_trivago_click_on_what_was_not_shown(tmp_path):
    log = tmp_path / "trivago.csv"
    head = "user_id,session_id,timestamp,step,action_type,reference,impressions\n"
    log.write_text(head + "u,s,5,1,clickout item,9,1|2\n")
    with pytest.raises(
        MfganError, match="row 2: the click of display s/1 must be on an item shown"
    ):
        prepare_displays(log, tmp_path / "out", format="displays-trivago")
    log.write_text(head + "u,s,5,1,search,x,\nu,s,6,2,clickout item,2,1|2\n")
    data = prepare_displays(log, tmp_path / "out", format="displays-trivago")
    assert data.clicks.tolist() == [1]
    log.write_text(head + "u,s,6,2,clickout item,2,\n")
    with pytest.raises(
        MfganError, match="row 2: display s/2 of user u must have items, found none"
    ):
        prepare_displays(log, tmp_path / "bad", format="displays-trivago")


def test_real_trivago(tmp_path):
    source = real_data("user-model/trivago_val_100k.parquet")
    data = prepare_displays(source, tmp_path / "out", format="displays-trivago", drop_bad=True)
    assert data.num_events == 13_596
    assert data.manifest["rules"]["left_out"] == {"not-shown": 1}


def test_a_table_of_other_names(tmp_path):
    pl.DataFrame({"page": ["a", "a", "b"], "sku": ["x", "y", "x"], "hit": [1, 0, 0]}).write_parquet(
        tmp_path / "log.parquet"
    )
    names = {"display_id": "page", "item_id": "sku", "click": "hit"}
    data = prepare_displays(
        tmp_path / "log.parquet", tmp_path / "out", format="displays-table", columns=names
    )
    assert data.num_users == 2
    assert data.clicks.tolist() == [0, -1]


@pytest.mark.parametrize("times", [["30", "10"], ["2020-01-02", "2020-01-01 10:00"]])
def test_a_table_is_ordered_by_its_times(tmp_path, times):
    lines = ["user_id,display_id,item_id,click,timestamp"]
    for display, time in enumerate(times):
        lines += [f"u,{display},{item},{int(item == display)},{time}" for item in (0, 1, 2)]
    (tmp_path / "log.csv").write_text("\n".join(lines) + "\n")
    data = prepare_displays(tmp_path / "log.csv", tmp_path / "out", format="displays-table")
    assert data.clicks.tolist() == [1, 0]
    assert np.diff(data.timestamps).tolist() == ([20_000] if times[0] == "30" else [14 * 3_600_000])
    (tmp_path / "log.csv").write_text("\n".join([*lines, "u,9,0,0,soon"]))
    with pytest.raises(MfganError, match="row 8: timestamp must be a number or an ISO date, got"):
        prepare_displays(tmp_path / "log.csv", tmp_path / "bad", format="displays-table")
    assert not (tmp_path / "bad").exists()


def test_retailrocket_displays_follow_their_rule(tmp_path):
    source = real_data("retailrocket/sample_retailrocket.csv")
    make = [
        prepare_displays(source, tmp_path / name, format="displays-retailrocket", seed=seed)
        for name, seed in (("a", 0), ("b", 0), ("c", 1))
    ]
    assert make[0].fingerprint == make[1].fingerprint != make[2].fingerprint
    data = make[0]
    assert (np.diff(data.offsets) == 10).all()
    viewed = data.items[data.offsets[:-1] + data.clicks]
    views = np.bincount(viewed, minlength=data.num_items + 1)
    bins = np.frexp(views.astype(float))[1]
    same = bins[data.items] == bins[viewed][data.row_events]
    sizes = np.bincount(bins[1:])
    large = sizes[bins[viewed]] >= 10
    assert same[large[data.row_events]].all()


def test_pools_are_drawn_from_without_return_and_without_the_viewed_item():
    index = np.repeat(np.arange(6), 50)
    pool = np.array([0, 0, 0, 1, 1, 1])
    order, offsets = np.arange(6), np.array([0, 3, 6])
    drawn = np.full((300, 4), -1)
    fill_from_pools(index, pool, order, offsets, drawn, np.uint64(5))
    assert (drawn[:, 2:] == -1).all()
    for row, item in zip(drawn, index, strict=True):
        assert {item, *row[:2].tolist()} == set(np.flatnonzero(pool == pool[item]).tolist())
    first = drawn[index == 0, 0]
    assert 10 < (first == 1).sum() < 40


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("propensity", "oops", r"row 3: propensity must be within \(0, 1\]"),
        ("propensity", "1.5", r"row 3: propensity must be within \(0, 1\]"),
        ("position", "40000", r"row 3: position must be within 0..32767"),
        ("position", "-1", r"row 3: position must be within 0..32767"),
        ("position", "", r"row 3: position must be within 0..32767"),
    ],
)
def test_what_a_table_says_of_a_display_is_checked(tmp_path, column, cell, said):
    good = "0.5" if column == "propensity" else "1"
    rows = [f"d{d},u{d % 3},i{i},{int(i == 0)},{good}" for d in range(9) for i in range(2)]
    rows[1] = rows[1].rsplit(",", 1)[0] + f",{cell}"
    path = tmp_path / "log.csv"
    path.write_text("\n".join([f"display_id,user_id,item_id,click,{column}", *rows]))
    with pytest.raises(MfganError, match=said):
        prepare_displays(path, tmp_path / "out", format="displays-table")
    assert not (tmp_path / "out").exists()


def test_open_bandit_without_features_of_users_is_one_user(tmp_path):
    head = "timestamp,item_id,position,click,propensity_score"
    rows = [f"2019-11-24 00:00:0{n}+00:00,{n % 3},1,{n % 2},0.5" for n in range(9)]
    (tmp_path / "all.csv").write_text("\n".join([head, *rows]))
    read = READERS["displays-open-bandit"](DisplayRequest(tmp_path / "all.csv"))
    assert read.rows["user_id"].to_list() == ["all"] * 9


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("1000,1,view,", "row 4: itemid is empty"),
        (",1,view,5", "row 4: timestamp is empty"),
        (None, "must hold views, found none"),
    ],
)
def test_views_without_an_item_or_a_time_are_refused(tmp_path, row, said):
    event = "view" if row else "addtocart"
    rows = [f"{1000 + n},{n % 2},{event},{n}" for n in range(6)]
    if row:
        rows[2] = row
    path = tmp_path / "events.csv"
    path.write_text("\n".join(["timestamp,visitorid,event,itemid", *rows]))
    with pytest.raises(MfganError, match=said):
        READERS["displays-retailrocket"](DisplayRequest(path, alternatives=1))
