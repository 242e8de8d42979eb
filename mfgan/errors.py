"""What a user can mend: one line that says where, which rule, and what came."""


class MfganError(ValueError):
    """A mistake in the input or the configuration; the command line prints it and exits 2."""


def nearest(word: str, known: "list[str]") -> str:
    """A suggestion to end an error line with, or nothing where no known word is near."""
    from difflib import get_close_matches

    close = get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
