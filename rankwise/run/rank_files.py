"""Files that each rank writes, in a folder that the user names."""

from pathlib import Path

from rankwise.disk import files
from rankwise.ranks.agreement import Stop


def path(option: str, folder: Path, name: str, rank: int, size: int, kind: str) -> Path:
    """Return the path of a new file of a rank, in a folder that is made where it is missing.

    What killed runs left there is removed.

    Parameters
    ----------
    option : str
        What names the folder on the command line, for the message.
    folder : Path
    name : str
        Of the run.
    rank, size : int
        Of its ranks.
    kind : str
        Suffix of the file.

    Raises
    ------
    Stop
        The folder cannot be made, or no such file in it.
    """
    # As many digits for all, so that names sort by rank.
    file = folder / f"{name}-rank-{rank:0{len(str(size - 1))}}.{kind}"
    try:
        if folder.exists() and not folder.is_dir():
            raise Stop(f"{option} {folder} is not a folder")
        folder.mkdir(parents=True, exist_ok=True)
        file.touch(exist_ok=False)
        file.unlink()
        if rank == 0:
            files.remove_stale(folder)
    except OSError as error:
        raise Stop(f"{option} {folder}: cannot write there: {error.strerror}") from None
    return file
