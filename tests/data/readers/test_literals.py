"""Lines of Python dictionaries: the compiled parser against ``ast.literal_eval``."""

import ast
import gzip
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from realdata import real_data

from mfgan.console import SILENT
from mfgan.data.readers import literals
from mfgan.data.readers.bad_lines import BadLines
from mfgan.data.readers.literals import parse, parse_slowly, read_literals
from mfgan.data.readers.raw_log import Request
from mfgan.errors import MfganError

FIELDS = {
    "text": ("a", "text"),
    "number": ("a", "number"),
    "texts": ("a", "texts"),
    "other": ("é 'key'", "text"),
    "empty": ("", "number"),
}

needs_native = pytest.mark.skipif(literals.native() is None, reason="mfgan._native is not built")

_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["'", '"', "\\", "'\"", "\n", "\x00", "é", "’", "😀", "u'", "# no comment"])
)
_keys = st.sampled_from(["a", "é 'key'", "", "b", "A"]) | _scalars | st.tuples(_scalars)
_values = st.recursive(
    _scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(_keys, inner, max_size=3)
        | st.sets(_scalars, min_size=1, max_size=3)
    ),
    max_leaves=8,
)
_records = st.dictionaries(_keys, _values, max_size=6)


def python_2(value: object) -> str:
    """``repr`` as Python 2 wrote it, which the Steam dumps come from."""
    if isinstance(value, str):
        body = value.encode("unicode_escape").decode()
        quote = '"' if "'" in body and '"' not in body else "'"
        return f"u{quote}{body.replace(quote, chr(92) + quote)}{quote}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{python_2(k)}: {python_2(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(python_2, value)) + "]"
    return repr(value)


def same(one: literals.Parsed, other: literals.Parsed) -> bool:
    return (
        one.frame.equals(other.frame)
        and one.lines.tolist() == other.lines.tolist()
        and (one.line_count, one.bad_count) == (other.line_count, other.bad_count)
        and [line for line, _ in one.bad] == [line for line, _ in other.bad]
    )


@needs_native
@settings(max_examples=200, deadline=None)
@given(st.lists(_records, max_size=4), st.sampled_from([repr, python_2]), st.booleans())
def test_parser_equals_literal_eval(records, render, newline_at_end):
    text = "\n".join(map(render, records)) + ("\n" if newline_at_end else "")
    text = text.encode()
    assert same(parse(text, FIELDS), parse_slowly(text, FIELDS))
    assert parse(text, FIELDS).bad_count == 0


@needs_native
@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_lines_are_never_read_otherwise_than_python_reads_them(data):
    line = data.draw(st.sampled_from([repr, python_2]))(data.draw(_records)).encode()
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(line)))
        cut = data.draw(st.integers(0, 2))
        put = data.draw(st.sampled_from(list(b"{}[](),:'\"\\ur x0123456789eE._+-\r\0\t\xc3\xa9")))
        line = line[:at] + bytes([put]) + line[at + cut :]
    found, expected = parse(line, FIELDS), parse_slowly(line, FIELDS)
    if found.bad_count == 0:
        assert same(found, expected)


def _one(line: str, kind: str) -> object:
    values = [
        p(line.encode(), {"x": ("a", kind)}).frame["x"].to_list() for p in (parse, parse_slowly)
    ]
    assert values[0] == values[1]
    return values[0][0] if values[0] else "no record"


@pytest.mark.parametrize(
    ("line", "kind", "value"),
    [
        ("{u'a': u'Ren\\xe9 \\u2019s'}", "text", "René ’s"),
        ("{'a': \"it's\"}", "text", "it's"),
        (
            r"{'a': 'it\'s \"so\" \\ \n\t\a\0\12\777\q'}",
            "text",
            'it\'s "so" \\ \n\t\a\0\n\u01ff\\q',
        ),
        (r"{'a': r'\n\''}", "text", r"\n\'"),
        (r"{'a': '\ud83d\ude00 \ud83d \ude00'}", "text", "😀 � �"),
        (r"{'a': '\U0001f600'}", "text", "😀"),
        (r"{'\x61': 'escaped key'}", "text", "escaped key"),
        ("{'a': 1, 'a': 'last wins'}", "text", "last wins"),
        ("{'a': 'gone', 'a': 1}", "text", None),
        ("{'b': {'a': 'inner'}}", "text", None),
        ("{'b': {'a': 'inner'}, 'a': 'outer', 'c': {'a': 1}}", "text", "outer"),
        ("{'a': None}", "text", None),
        ("{'a': 1_000.5e-1}", "number", 100.05),
        ("{'a': - 7}", "number", -7.0),
        ("{'a': .5}", "number", 0.5),
        ("{'a': 5.}", "number", 5.0),
        ("{'a': 00}", "number", 0.0),
        ("{'a': True}", "number", 1.0),
        ("{'a': 1e999}", "number", math.inf),
        ("{'a': -1e-999}", "number", -0.0),
        (f"{{'a': {10**400}}}", "number", math.inf),
        ("{'a': 9007199254740993}", "number", 9007199254740992.0),
        ("{'a': '4.99'}", "number", None),
        ("{'a': ['x', 1, ['y'], 'z', None]}", "texts", ["x", "z"]),
        ("{'a': ('x',)}", "texts", ["x"]),
        ("{'a': 'alone'}", "texts", ["alone"]),
        ("{'a': []}", "texts", []),
        ("{'a': {'x'}}", "texts", None),
        ("{'a': 3}", "texts", None),
        (" \t{ 'a' : 'spaces' , } ", "text", "spaces"),
        ("{}", "text", None),
    ],
)
def test_values(line, kind, value):
    assert _one(line, kind) == value


@needs_native
@pytest.mark.parametrize(
    "piece", ["x", r"\'", r"\\\\", r"\x41", r"\u00e9", r"\U0001f600", r"\n", "\t", "é"]
)
@pytest.mark.parametrize("lead", [0, 1, 7, 14, 15, 16, 47, 60, 61, 62, 63, 64, 65, 126, 127, 128])
def test_long_strings_have_their_escapes_anywhere(lead, piece):
    lines = []
    for prefix in ("", "u"):
        for rest in (0, 5, 70):
            first = f"{'y' * lead}{piece}{'z' * rest}{piece}"
            second = f"{'y' * lead}{piece}"
            lines.append(f"{{'b': {prefix}'{first}', 'a': {prefix}'{second}'}}")
    text = "\n".join(lines).encode()
    fields = {"a": ("a", "text"), "b": ("b", "text")}
    assert parse(text, fields).bad_count == 0
    assert same(parse(text, fields), parse_slowly(text, fields))
    cut = text.replace(b"', 'a'", b", 'a'")
    assert parse(cut, fields).bad_count == parse_slowly(cut, fields).bad_count == len(lines)


_SPELLED = [
    "{'a': 1, 'b': 2, 'c': 'x'}",
    "{'a': 3, 'b': 4, 'c': 'yy'}",
    "{'b': 5, 'a': 6}",
    "{'c': 'behind', 'b': 7}",
    "{u'a': 8, \"b\": 9}",
    "{'a':10,'b' : 11, 'c'  :  'z'}",
    "{'a':   12, 'a': 13, 'b': 14}",
    r"{'\x61': 15, 'b': 16}",
    "{'a' 17}",
    "{, 'a': 18}",
    "{'a': 1,, 'b': 2}",
    "{'a': }",
    "{'aa': 1, 'bb': 2}",
    "{1: 2, None: 3, 'a': 4}",
    *(f"{{'{'k' * n}': 1, 'a': {n}}}" for n in (23, 26, 27, 28, 40)),
    *(
        f"{{{', '.join(f'{chr(39)}n{i}{chr(39)}: {i}' for i in range(n))}, 'b': 5}}"
        for n in (3, 70)
    ),
    "{'é': 1, 'a': 2}",
    "{'é': 1, 'a': 3}",
    "{'\xff': 1, 'a': 4}",
]


@needs_native
@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(_SPELLED), max_size=12))
def test_how_earlier_lines_spelled_their_keys_changes_nothing(lines):
    text = "\n".join(lines).encode("latin-1" if any("\xff" in line for line in lines) else "utf-8")
    fields = {
        "a": ("a", "number"),
        "b": ("b", "number"),
        "c": ("c", "text"),
        "n": ("n69", "number"),
    }
    assert same(parse(text, fields), parse_slowly(text, fields))


@needs_native
@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 7, 8, 9, 11, 12, 13, 15, 16, 17, 40])
def test_texts_of_any_size_stand_alone_and_in_lists(size):
    texts = ["x" * size, "é" * size, "\\n" * size, "y" * (25 - size if size < 25 else 1)]
    lines = [f"{{'a': '{one}', 'b': {['p', 'q' * size, *texts]}}}" for one in texts]
    text = "\n".join([*lines, "{'a': 1, 'b': 2}"] * 3).encode()
    fields = {"a": ("a", "text"), "b": ("b", "texts"), "again": ("a", "texts")}
    assert same(parse(text, fields), parse_slowly(text, fields))


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{'a': 1", "unexpected end of input"),
        ("{'a': 'x", "unexpected end of input"),
        ("{'a' 1}", "expected ':' behind a key, got '1' at column 6"),
        ("{'a': 1 'b': 2}", "expected ',' or '}', got ''' at column 9"),
        ("['a']", "expected '{', got '[' at column 1"),
        ("{'a': 1} x", "expected nothing behind the dictionary, got 'x' at column 10"),
        ("{'a': nan}", "expected a value, got 'n' at column 7"),
        ("{'a': 012}", "expected a number without leading zeros, got '}' at column 10"),
        ("{'a': 1__0}", "expected a decimal number, got '_' at column 8"),
        ("{'a': '\\x4'}", "expected a whole escape, got '\\' at column 8"),
        ("{'a': '\\U00110000'}", "expected a whole escape, got '\\' at column 8"),
        ("{[1]: 2}", "expected a key that is no list or dictionary, got ':' at column 5"),
        ("{'a': {1, [2]}}", "expected a set of no lists or dictionaries, got '}' at column 14"),
        ("{'a': [1 2]}", "expected ',' or the end of a list, got '2' at column 10"),
        ("{'a': 1,, }", "expected a value, got ',' at column 9"),
        ("{é: 1}", "expected a value, got a byte of no text at column 2"),
        ("{'a': 'x\0y'}", "a zero byte"),
        ("{'a': 'x\ry'}", "a carriage return within the line"),
        ("{'a': " + "[" * 64 + "]" * 64 + "}", "expected at most 64 levels, got ']' at column 71"),
    ],
)
@needs_native
def test_reasons(line, reason):
    found = parse(line.encode(), FIELDS)
    assert found.bad == [(1, reason)]
    assert found.frame.height == 0
    if "64" not in reason:
        assert parse_slowly(line.encode(), FIELDS).bad_count == 1


@pytest.mark.parametrize("parser", [pytest.param(parse, marks=needs_native), parse_slowly])
def test_line_numbers_count_blank_and_bad_lines(parser):
    text = b"{'a': 1}\r\n\n{'a': 2\n   \n{'a': 3}\n\xff\n{'b': 1}\nx\ny\n"
    found = parser(text, {"x": ("a", "number")})
    assert found.frame["x"].to_list() == [1.0, 3.0, None]
    assert found.lines.tolist() == [1, 5, 7]
    assert [line for line, _ in found.bad] == [3, 6, 8]
    assert (found.bad_count, found.line_count) == (4, 9)


@pytest.mark.parametrize("parser", [pytest.param(parse, marks=needs_native), parse_slowly])
def test_nothing_at_all(parser):
    found = parser(b"", FIELDS)
    assert found.frame.shape == (0, 5)
    assert (found.line_count, found.bad_count, len(found.lines)) == (0, 0, 0)


def test_a_file_is_read_in_pieces_with_the_line_numbers_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(literals, "line_chunks", _small_chunks)
    path = tmp_path / "log.json.gz"
    rows = [f"{{'a': 'row {i}'}}" for i in range(50)]
    rows[30] = "{'a': "
    path.write_bytes(gzip.compress("\n".join(rows).encode()))
    bad = BadLines(path.name, Request("x", "steam", max_bad_lines=1))
    frame, lines = read_literals(path, {"a": ("a", "text")}, bad, SILENT)
    assert frame["a"].to_list() == [f"row {i}" for i in range(50) if i != 30]
    assert lines.tolist() == [i + 1 for i in range(50) if i != 30]
    assert bad.settle() == 1
    strict = BadLines(path.name, Request("x", "steam"))
    with pytest.raises(MfganError, match=r"line 31 of log.json.gz is not a record: unexpected end"):
        read_literals(path, {"a": ("a", "text")}, strict, SILENT)


def _small_chunks(path):
    from mfgan.data.readers.sources import line_chunks

    return line_chunks(path, 64)


@needs_native
@pytest.mark.parametrize("name", ["steam_reviews_au.json.gz", "steam_games.json.gz"])
def test_real_dumps_equal_literal_eval(name):
    text = gzip.decompress(real_data(f"steam/{name}").read_bytes())
    text = b"".join(text.splitlines(keepends=True)[:4000])
    keys = sorted(
        {key for line in text.splitlines()[:200] for key in ast.literal_eval(line.decode())}
    )
    fields = {f"{key}/{kind}": (key, kind) for key in keys for kind in ("text", "number", "texts")}
    found = parse(text, fields)
    assert found.bad_count == 0
    assert same(found, parse_slowly(text, fields))
    assert np.all(np.diff(found.lines) > 0)
