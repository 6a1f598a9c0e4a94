"""The Slurm templates, written out for somebody who has no clone."""

import argparse
import shutil
import sys
from pathlib import Path

DESCRIPTION = "Write the Slurm templates into a folder, to be adapted to a site: see its env.sh."
EXAMPLES = """example:
  rankwise templates slurm && sbatch slurm/scaling.sh -- ./any_mpi_program --size 1000
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``rankwise templates``."""
    meaning = "where to, made if it is not there; the scripts find each other if it is named slurm"
    parser.add_argument("folder", metavar="FOLDER", type=Path, help=meaning)


def main(args: argparse.Namespace) -> int:
    """Copy the templates and return the exit status: 0, or 2 if one of them cannot be written."""
    templates = sorted(_folder().glob("*.sh"))
    try:
        args.folder.mkdir(parents=True, exist_ok=True)
        for path in [args.folder / template.name for template in templates]:
            if path.exists() or path.is_symlink():
                raise FileExistsError(0, "it is there already, and no file is replaced", path)
        for template in templates:
            path = args.folder / template.name
            # Not through a link that has come meanwhile.
            with path.open("xb") as file:
                file.write(template.read_bytes())
            shutil.copymode(template, path)
            print(path)
    except OSError as error:
        where = error.filename2 or error.filename
        print(f"rankwise templates: error: {where}: {error.strerror}", file=sys.stderr)
        return 2
    return 0


def _folder() -> Path:
    """Return where the templates are: in an installed package, else beside it, in its clone."""
    package = Path(__file__).parents[1]
    inside = package / "templates"
    return inside if inside.is_dir() else package.parent / "slurm"
