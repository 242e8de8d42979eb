"""What a log calls its users is shown as it is, whatever marks and letters it has."""

import io
import sys

import polars as pl
import pytest

from mfgan.cli import main
from mfgan.console import Reporter


def test_marks_in_titles_and_columns_are_text(capsys):
    Reporter(quiet=False).table("[/b]1: 8 items", ["[red]item", "score"], [["[bold]x", "1.0"]])
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("[/b]1: 8 items", "[red]item", "[bold]x"))


def test_a_terminal_that_lacks_the_letters_gets_escapes(monkeypatch, tmp_path):
    terminal = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", terminal)
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", "n\u014d.csv", str(tmp_path / "out")])
    assert terminal.buffer.getvalue() == b"reading n\\u014d.csv\n"


def one_line(capsys, *arguments):
    with pytest.raises(SystemExit, match="2"):
        main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    return lines[0]


@pytest.mark.parametrize("place", range(5))
def test_arguments_that_are_no_text(capsys, tmp_path, place):
    words = ["prepare", "log.csv", str(tmp_path / "out"), "--name", "a"]
    words[place] += "\udcff"
    assert "names and text must be UTF-8, got " in one_line(capsys, *words)
    assert not any(tmp_path.iterdir())


def test_files_in_a_folder_whose_names_are_no_text(capsys, tmp_path):
    folder = tmp_path / "log"
    folder.mkdir()
    pl.DataFrame({"user_id": [1], "item_id": [2]}).write_parquet(tmp_path / "part.parquet")
    (tmp_path / "part.parquet").rename(folder / "part\udcff.parquet")
    error = one_line(capsys, "prepare", folder, tmp_path / "out", "--quiet")
    assert error.startswith("mfgan: names and text must be UTF-8, got ")
    assert error.endswith("part\\udcff.parquet'")


def test_records_whose_text_is_none(capsys, tmp_path):
    path = tmp_path / "log.ndjson"
    path.write_text(
        "".join(f'{{"user_id": "{r}", "item_id": 1}}\n' for r in ["\\ud800", "b"]) + "{"
    )
    error = one_line(capsys, "prepare", path, tmp_path / "out", "--quiet", "--max-bad-lines", 1)
    assert error == r"mfgan: names and text must be UTF-8, got '\ud800'"
    assert not (tmp_path / "out").exists()
