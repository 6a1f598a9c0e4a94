"""The calls that the CUDA variants of every kernel must answer with the bits of its reference.

A second kernel folder joins by one more row in `ROWS`: the folder, the function, and a generator
of named argument tuples as the reference takes them, with `Rows` for a part of an array.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from kernels import k_means, mandelbrot
from kernels.sum_squares import BLOCK
from rankwise.node import variants


@dataclass(frozen=True)
class Rows:
    """An argument that is some rows of an array, cut out where the variant runs."""

    whole: np.ndarray
    rows: slice


@dataclass(frozen=True)
class Case:
    """One call: `function` of a variant in `folder`, with `arguments` in host memory."""

    folder: str
    function: str
    arguments: tuple[Any, ...] = field(repr=False)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to compute: the reference writes nothing."""
        before = [
            getattr(a, "whole", a) for a in self.arguments if isinstance(a, np.ndarray | Rows)
        ]
        after = self.run("numpy")
        return all(a.tobytes() == b.tobytes() for a, b in zip(before, after, strict=True))

    def run(
        self, variant: str, put: Callable = np.array, get: Callable = np.asarray
    ) -> list[np.ndarray]:
        """Call the variant, and return its arrays, whole.

        Parameters
        ----------
        variant : str
            One that the kernel has.
        put, get : callable
            Bring one array to where the variant takes it, and back.
        """
        arrays = []
        arguments = []
        for argument in self.arguments:
            if isinstance(argument, Rows):
                arrays.append(put(argument.whole))
                argument = arrays[-1][argument.rows]
            elif isinstance(argument, np.ndarray):
                arrays.append(put(argument))
                argument = arrays[-1]
            arguments.append(argument)
        kernel = importlib.import_module(f"kernels.{self.folder}")
        getattr(variants.load(kernel, variant), self.function)(*arguments)
        return [get(array) for array in arrays]

    def check(self, variant: str, put: Callable = np.array, get: Callable = np.asarray) -> None:
        """Assert that the variant leaves the bits of the reference in every array."""
        expected = self.run("numpy")
        for position, (a, b) in enumerate(zip(self.run(variant, put, get), expected, strict=True)):
            assert a.dtype == b.dtype and a.shape == b.shape
            differ = np.flatnonzero(a.reshape(-1).view(np.uint8) != b.reshape(-1).view(np.uint8))
            where = differ[:5] // a.itemsize
            assert not differ.size, (
                f"array {position} differs at {where}: {a.flat[where]} != {b.flat[where]}"
            )


def sum_squares() -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    for dtype in (np.float64, np.float32):
        for n in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77):
            rng = np.random.default_rng(n)
            # Magnitudes apart, so that the order of additions and every rounding tell.
            x = rng.standard_normal(n) * 10.0 ** rng.uniform(-3, 3, n)
            # NaN, so that a block without a sum is found.
            yield f"{dtype.__name__}-{n}", (x.astype(dtype), np.full(-(-n // BLOCK), np.nan))


def subnormal_squares() -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    for dtype in (np.float64, np.float32):
        x = np.full(100, np.finfo(dtype).smallest_subnormal)
        yield f"{dtype.__name__}-subnormal", (x, np.full(1, np.nan))


def heat_steps() -> Iterator[tuple[str, tuple[Any, ...]]]:
    # Below and above the 8 rows and 32 columns of a thread block, and nothing inside the ring.
    for ny, nx in ((0, 0), (0, 3), (3, 0), (1, 1), (1, 34), (2, 5), (9, 33), (9, 1)):
        yield f"{ny}x{nx}", (*plates(ny, nx), 0.2371)
    u, out = plates(6, 40)
    for first, stop in ((0, 3), (1, 7), (5, 8), (2, 4)):
        rows = slice(first, stop)
        yield f"rows-{first}-{stop}", (Rows(u, rows), Rows(out, rows), 0.25)


def plates(ny: int, nx: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a state whose roundings all tell, and one of NaN, so that a missed point shows."""
    rng = np.random.default_rng([ny, nx])
    shape = (ny + 2, nx + 2)
    u = rng.standard_normal(shape) * 10.0 ** rng.uniform(-3, 3, shape)
    return u, np.full(shape, np.nan)


def k_means_assignments() -> Iterator[tuple[str, tuple[Any, ...]]]:
    # Around the 32 points of a block and the 128 of a thread block; more columns than threads; and
    # more sums than a thread block keeps.
    for n, d, k in (
        *((n, 3, 5) for n in (0, 1, 31, 32, 33, 128, 129, 300)),
        *((150, 1, 1), (150, 1, 2), (40, 9, 4), (40, 40, 8), (5, 130, 3), (4, 20, 100)),
    ):
        yield f"{n}x{d}-{k}", points(n, d, k)
    # All equally near, and centres that are equal: the first one wins.
    x, centres, *rest = points(70, 2, 6)
    yield "equal", (np.zeros_like(x), np.zeros_like(centres), *rest)
    yield "ties", (np.sign(x), np.array([[0, 1], [1, 0], [0, 1], [0, -1.0]]), *outputs(70, 2, 4, 1))
    yield "underflow", (x * 2.0**-560, centres * 2.0**-560, *rest[:3], rest[3] * 2.0**560)


def points(n: int, d: int, k: int) -> tuple[Any, ...]:
    """Return the arguments of an assignment whose roundings all tell."""
    rng = np.random.default_rng([n, d, k])
    x = rng.standard_normal((n, d)) * 10.0 ** rng.uniform(-3, 1, (n, d))
    scale = 2.0 ** k_means.shift(float(np.abs(x).max(initial=0)), n)
    k_means.round_points(x, scale)
    return x, rng.standard_normal((k, d)), *outputs(n, d, k, scale)


def outputs(n: int, d: int, k: int, scale: float) -> tuple[Any, ...]:
    """Return arrays in which an element that is not written shows, and a scale."""
    labels, inertia = np.full(n, -7, np.int32), np.full(-(-n // k_means.BLOCK), np.nan)
    # Without points the reference writes nothing else.
    return labels, np.full((k, d + 1), -7 if n else 0), inertia, scale


# Centre and width of a window at the edge of the Mandelbrot set, as narrow as float64 allows.
CHAOS = (0.3895689612938313, 0.1421351908405224), 2.0**-43


def escapes() -> Iterator[tuple[str, tuple[Any, ...]]]:
    # Around the 128 points of a thread block, and pieces that begin within a row.
    x, y = mandelbrot.coordinates(13, (-0.5, 0.5), 3.25)
    for first, points in ((0, 0), (0, 1), (5, 127), (7, 128), (15, 129)):
        yield f"{first}-{points}", window(first, points, x, y[:-1], 40)
    for limit in (1, 2, 8, 9, 17):
        yield f"limit-{limit}", window(3, 50, x, y, limit)
    # Points that any other rounding sends other ways; and numbers that an int32 does not hold.
    x, y = mandelbrot.coordinates(9, *CHAOS)
    x, y = np.resize(x, 50000), np.resize(y, 50000)
    yield "chaos", window(42951 * 50000 + 6, 12, x, y, 400)
    # The real part stays 2 while the imaginary one grows from almost 0; or that stays 0.
    x, y = np.array([-2.0, 0.25 + 2**-10]), np.array([1e-300, 0.0])
    yield "half-still", window(0, 4, x, y, 600)


def endless_orbits() -> Iterator[tuple[str, tuple[Any, ...]]]:
    # Fixed points and periods; a loop over all iterations would take minutes.
    x, y = np.array([-1.7549, -1.3125, -1.0, -0.125, 0.0, 0.25 - 2**-10]), np.array([0.0, 0.03125])
    yield "endless", window(0, 12, x, y, 2**31 - 1)


def window(first: int, points: int, x: np.ndarray, y: np.ndarray, limit: int) -> tuple[Any, ...]:
    """Return the arguments of a call, with counts in which one that is not written shows."""
    return first, np.full(points, -7, np.int32), x, y, limit


ROWS: tuple[tuple[str, str, Callable[[], Iterator[tuple[str, tuple[Any, ...]]]]], ...] = (
    ("sum_squares", "block_sums", sum_squares),
    ("sum_squares", "block_sums", subnormal_squares),
    ("heat", "step", heat_steps),
    ("k_means", "assign", k_means_assignments),
    ("mandelbrot", "counts", escapes),
    ("mandelbrot", "counts_by_period", escapes),
    ("mandelbrot", "counts_by_period", endless_orbits),
)

CASES = [
    pytest.param(Case(folder, function, arguments), id=f"{folder}-{name}")
    for folder, function, generate in ROWS
    for name, arguments in generate()
]

every_case = pytest.mark.parametrize("case", CASES)


def need(module: str) -> ModuleType:
    """Import a module of the CUDA extra, or fail with what to install."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        pytest.fail(
            f"{error}: run these tests with .venv-cuda, which `make test` makes", pytrace=False
        )
