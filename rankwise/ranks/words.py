"""Words that several rooms say."""


def printable(text: str) -> str:
    """Escape what is not UTF-8 in the name of a file, which HDF5 and terminals refuse."""
    return text.encode("utf-8", "backslashreplace").decode()
