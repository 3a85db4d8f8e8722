"""What goes wrong in a conversion, said in one sentence that names the file and what to do."""


class ConversionError(Exception):
    """The checkpoint cannot be converted, or the output cannot be written. Nothing is left behind."""
