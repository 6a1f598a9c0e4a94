"""What a user notes about a sweep, such as the problem or the compiler: ``--note KEY=VALUE``."""

from rankwise.sweep.launchers import UsageError


def parse(given: list[str]) -> dict[str, str]:
    """Return the notes by their keys.

    Parameters
    ----------
    given : list of str
        Each ``KEY=VALUE``; spaces around either are ignored.

    Raises
    ------
    UsageError
        One has no ``=``, no key or no value, or characters that cannot be printed; or a key is
        given twice.
    """
    notes: dict[str, str] = {}
    for text in given:
        key, sign, value = (part.strip() for part in text.partition("="))
        if not (key and sign and value):
            raise UsageError(f"--note {text!r} is not like compiler=gcc-12")
        if not (key + value).isprintable():
            raise UsageError(f"--note {text!r} has characters that cannot be printed")
        if key in notes:
            raise UsageError(f"--note gives {key!r} twice")
        notes[key] = value
    return notes
