"""Words and lists that several rooms write and read."""


def printable(text: str) -> str:
    """Escape what is not UTF-8 in the name of a file, which HDF5 and terminals refuse."""
    return text.encode("utf-8", "backslashreplace").decode()


def counted(n: int, thing: str) -> str:
    """Return a count with its noun: ``1 rank``, ``2 ranks``, ``3 launches``."""
    if n == 1:
        return f"1 {thing}"
    return f"{n} {thing}es" if thing.endswith(("ch", "ss")) else f"{n} {thing}s"


def short(number: float) -> str:
    """Return a number with three digits, or all of a larger one: ``0.0226``, ``83.1``, ``1370``."""
    return f"{number:.0f}" if abs(number) >= 999.5 else f"{number:.3g}"


def duration(seconds: float) -> str:
    """Return seconds as people say them: ``89 s``, ``2 min``, ``2.0 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def ranges(numbers: tuple[int, ...]) -> str:
    """Write increasing numbers the way Slurm and Linux do: ``0-3,8``."""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def numbers(text: str) -> list[int]:
    """Read what `ranges` writes: ``0-3,8`` is 0, 1, 2, 3, 8."""
    ends = [part.partition("-") for part in text.split(",")]
    return [n for first, _, last in ends for n in range(int(first), int(last or first) + 1)]
