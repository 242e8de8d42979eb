"""Sequences as text: three layouts, told apart by stated rules."""

import gzip
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realdata import real_data

from mfgan.console import Reporter
from mfgan.data.readers import read_log
from mfgan.errors import MfganError


def rows(path, format="sequences", **options):
    return read_log(str(path), format=format, **options).interactions.collect().rows()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.lists(st.integers(0, 50), min_size=1, max_size=6), min_size=1, max_size=6),
    st.sampled_from([" ", "\t", "  "]),
    st.sampled_from(["\n", "\r\n", "\n\n"]),
)
def test_every_layout_gives_the_same_interactions(tmp_path, sequences, gap, end):
    expected = [(user, item) for user, items in enumerate(sequences, 1) for item in items]
    path = tmp_path / "log.txt"
    path.write_bytes(end.join(gap.join([str(u), str(i)]) for u, i in expected).encode())
    assert rows(path, "sequences:pairs") == expected
    lines = [gap.join(map(str, [user, *items])) for user, items in enumerate(sequences, 1)]
    path.write_bytes(end.join(lines).encode())
    assert rows(path, "sequences:users") == expected
    lines = [gap.join(map(str, items)) for items in sequences]
    path.write_bytes(end.join(lines).encode())
    # A session is called by the number of its line, blank ones counted.
    step = 2 if end == "\n\n" else 1
    assert rows(path, "sequences:sessions") == [
        (1 + step * (user - 1), item) for user, item in expected
    ]


@pytest.mark.parametrize(
    ("text", "expected", "said"),
    [
        ("1 5\n1 6\n2 5\n", [(1, 5), (1, 6), (2, 5)], "'user item'"),
        ("1 5 6\n2 5\n", [(1, 5), (1, 6), (2, 5)], "'user item item …'"),
        ("1 5\n2 5\n", [(1, 5), (2, 5)], "'user item item …'"),
        ("5 6 5\n5 7\n5\n", [(1, 5), (1, 6), (1, 5), (2, 5), (2, 7), (3, 5)], "'item item …'"),
        ("a x\na y\n", [("a", "x"), ("a", "y")], "'user item'"),
    ],
)
def test_layout_is_found_and_said(tmp_path, capsys, text, expected, said):
    path = tmp_path / "log.txt"
    path.write_text(text)
    assert rows(path, reporter=Reporter(quiet=False)) == expected
    assert f"each line is read as {said};" in capsys.readouterr().out


def test_attributes_beside_the_log_or_named(tmp_path):
    (tmp_path / "Beauty.txt").write_text("1 10 11\n2 10\n")
    attributes = {"10": [3, 4], "11": [], "12": [3]}
    (tmp_path / "Beauty_item2attributes.json").write_text(json.dumps(attributes))
    packed = tmp_path / "other.json.gz"
    packed.write_bytes(gzip.compress(json.dumps({"10": [9]}).encode()))
    log = read_log(str(tmp_path / "Beauty.txt"), format="sequences")
    assert log.items.collect().rows() == [(10, [3, 4]), (11, []), (12, [3])]
    assert log.attributes["attributes"].kind == "multi"
    assert [source.path for source in log.sources] == ["Beauty.txt", "Beauty_item2attributes.json"]
    log = read_log(str(tmp_path / "Beauty.txt"), format="sequences", items=str(packed))
    assert log.items.collect().rows() == [(10, [9])]


@pytest.mark.parametrize(
    ("format", "text", "message"),
    [
        ("sequences", "", "log.txt must hold interactions, found none"),
        ("sequences", " \n\n", "log.txt must hold interactions, found none"),
        ("sequences:pairs", "1 2\n1 2 3\n\n4\n", "line 2 of log.txt .* got 3 fields; line 4: .* got 1 field; 2"),
        ("sequences:users", "1 2\n1\n", "line 2 .* must be 'user item item …', got 1 field"),
        ("sequences", b"1 2\n\xff\xfe 3\n", "log.txt must be lines of ids, got: "),
    ],
)  # fmt: skip
def test_bad_input(tmp_path, format, text, message):
    path = tmp_path / "log.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(MfganError, match=message):
        rows(path, format)


def test_bad_lines_up_to_the_limit(tmp_path):
    path = tmp_path / "log.txt"
    path.write_text("1 2\n1 2 3\n1 4\n")
    assert rows(path, "sequences:pairs", max_bad_lines=1) == [(1, 2), (1, 4)]


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("ml-1m/sasrec.txt.gz", (999_611, 6040, 3416)),
        ("amazon/s3rec_Beauty.txt.gz", (198_502, 22_363, 12_101)),
        ("amazon/sasrec_Video.txt.gz", (287_107, 31_013, 23_715)),
        ("retailrocket/view_sessions.txt.gz", (685_984, 126_168, None)),
    ],
)
def test_real_files_have_their_published_sizes(name, shape):
    frame = read_log(str(real_data(name)), format="sequences").interactions.collect()
    assert (frame.height, frame["user_id"].n_unique()) == shape[:2]
    if shape[2]:
        assert frame["item_id"].n_unique() == shape[2]
