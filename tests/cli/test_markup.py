"""What a log calls its users is shown as it is, whatever marks it has."""

from mfgan.console import Reporter


def test_marks_in_titles_and_columns_are_text(capsys):
    Reporter(quiet=False).table("[/b]1: 8 items", ["[red]item", "score"], [["[bold]x", "1.0"]])
    shown = capsys.readouterr().out
    assert all(part in shown for part in ("[/b]1: 8 items", "[red]item", "[bold]x"))
