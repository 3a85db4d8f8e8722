"""What goes wrong in a conversion, said in one sentence that names the file and what to do."""


def printable(text: str) -> str:
    """Return a text without control characters: names in a file must not reach the terminal as commands."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ConversionError(Exception):
    """The checkpoint cannot be converted, or the output cannot be written. Nothing is left behind."""
