"""Where the data of a job come from: made by a function, or read from an ``--input``."""

import argparse
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rankwise.disk.dataset import Dataset
from rankwise.ranks.agreement import Stop, agreement, stop_all
from rankwise.run.begin import Begun

Fill = Callable[[int, np.ndarray], None]


def add_input(parser: argparse.ArgumentParser, meaning: str, local: bool = False) -> Any:
    """Add ``--input`` and what belongs to it.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    meaning : str
        What the array is, and what it must be like.
    local : bool
        Whether the job can let each rank make or read its own rows: ``--distribute local``.

    Returns
    -------
    group of options
        The input is one of them, and only one can be given: add the size of made data to it.
    """
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--input", metavar="FILE", help=f"FILE.h5:/dataset or FILE.npy, {meaning}")
    text = "let the --input refer to other files (external links, virtual datasets)"
    parser.add_argument("--allow-external", action="store_true", help=text)
    if local:
        parser.add_argument(
            "--distribute",
            choices=("scatter", "local"),
            default="scatter",
            help="scatter: rank 0 makes or reads for all ranks (default); local: each rank its "
            "own, the same rows, of an --input that all ranks see",
        )
    return group


class Source:
    """Rows that can be asked for: ``source(start, rows)`` fills an array with those from ``start``.

    Parameters
    ----------
    run : Begun
        If its parser had `add_input`, the user may give an array instead. Collective.
    make : callable
        ``make(start, rows)``, for data that are made.
    shape : sequence of int
        Of made data; an input has as many dimensions.
    dtypes : tuple of dtypes
        Element types that an input may have; made data have the first.
    largest : float, optional
        Largest magnitude that an element of an input may have; then what is not finite is refused.
    least : int
        Rows that the job needs.
    sizes : tuple of str
        Options, None by default, that are sizes of made data: refused beside an input.

    Attributes
    ----------
    made : bool
        Whether the rows are made.
    everywhere : bool
        Whether every rank can ask for them: they are made, or it reads for itself, with
        ``--distribute local``; else rank 0 alone.
    shape : tuple of int
    dtype : numpy.dtype
    nbytes : int

    Raises
    ------
    Stop
        The input is missing, unreadable or not as required, or has too few rows.
    """

    def __init__(
        self,
        run: Begun,
        make: Fill,
        shape: int | Sequence[int],
        dtypes: tuple[Any, ...],
        largest: float | None = None,
        least: int = 0,
        sizes: tuple[str, ...] = (),
    ) -> None:
        args = run.args
        self._clock = run.clock
        self._data: Dataset | None = None
        self.made, self._fill = getattr(args, "input", None) is None, make
        self.everywhere = self.made or getattr(args, "distribute", "scatter") == "local"
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        facts = shape, np.dtype(dtypes[0])
        if not self.made:
            for name in sizes:
                if getattr(args, name) is not None:
                    stop_all(f"--{name} is for made data; the size of an --input is fixed")
            facts = self._open(run, len(shape), dtypes, largest)
        self.shape, self.dtype = facts
        self._tried = False
        self.nbytes = math.prod(self.shape) * self.dtype.itemsize
        # All ranks know the same, and need not ask each other.
        if self.shape[0] < least or (least and 0 in self.shape):
            where = "the data" if self.made else args.input
            rows = "one row is" if least == 1 else f"{least} rows are"
            stop_all(f"{where}: the shape is {self.shape}, and {rows} needed at least")

    def _open(
        self, run: Begun, ndim: int, dtypes: tuple[Any, ...], largest: float | None
    ) -> tuple[tuple[int, ...], np.dtype]:
        args, comm, facts = run.args, run.comm, None
        self._fill = _absent
        with agreement(comm):
            if comm.rank == 0 or self.everywhere:
                data = Dataset(args.input, ndim, dtypes, largest, args.allow_external)
                self._data, self._fill = data, data.read
                facts = data.shape, data.dtype
        if self.everywhere:
            data.require_same(comm)
        for text in data.warnings if comm.rank == 0 else ():
            run.warn(text)
        return comm.bcast(facts)

    def __call__(self, start: int, rows: np.ndarray) -> None:
        """Fill ``rows`` with the rows from ``start`` on.

        Raises
        ------
        Stop
            The file is damaged there, or an element is too large or not finite; or rows that are
            made depend on where a rank begins, which is looked at once.
        """
        self._clock.moves += 1
        self._fill(start, rows)
        if self.made and not self._tried and len(rows) > 1:
            self._tried = True
            self._require_place(start, rows)

    def _require_place(self, start: int, rows: np.ndarray) -> None:
        """Stop unless rows that are made are the same wherever a rank begins to make them."""
        middle = len(rows) // 2
        kept = rows[middle : middle + 4].copy()
        again = np.empty_like(kept)
        self._fill(start + middle, again)
        if again.tobytes() != kept.tobytes():
            raise Stop(
                f"row {start + middle} of the data that are made depends on where a rank begins: "
                "make(start, rows) must fill rows[i] with row start + i",
                status=1,
            )

    def sha256(self) -> str | None:
        """Return the SHA-256 of the elements of an input; None of made data. On rank 0.

        Phase ``read``: that of rank 0 alone, so that others who wait in vain are no ranks at work.
        """
        if self._data is None:
            return None
        with self._clock.phase("read"):
            return self._data.sha256()


def _absent(start: int, rows: np.ndarray) -> None:
    raise Stop(
        "only rank 0 has opened the --input: for `each`, the job needs add_input(..., local=True), "
        "and the user --distribute local"
    )
