"""The calls that the CUDA variants of every kernel must answer with the bits of its reference.

A second kernel folder joins by one more row in `ROWS`: the folder, the function, and a generator
of named argument tuples as the reference takes them.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import kernels
from kernels.sum_squares import BLOCK


@dataclass(frozen=True)
class Case:
    """One call: `function` of a variant in `folder`, with `arguments` in host memory."""

    folder: str
    function: str
    arguments: tuple[Any, ...] = field(repr=False)

    @property
    def empty(self) -> bool:
        """Whether there is nothing to compute."""
        return not any(a.size for a in self.arguments if isinstance(a, np.ndarray))

    def run(
        self, variant: str, put: Callable = np.array, get: Callable = np.asarray
    ) -> list[np.ndarray]:
        """Call the variant, and return its arrays.

        Parameters
        ----------
        variant : str
            One of `kernels.VARIANTS`.
        put, get : callable
            Bring one array to where the variant takes it, and back.
        """
        arguments = [put(a) if isinstance(a, np.ndarray) else a for a in self.arguments]
        getattr(kernels.load(self.folder, variant), self.function)(*arguments)
        arrays = [isinstance(a, np.ndarray) for a in self.arguments]
        return [get(a) for a, is_array in zip(arguments, arrays, strict=True) if is_array]

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


ROWS: tuple[tuple[str, str, Callable[[], Iterator[tuple[str, tuple[Any, ...]]]]], ...] = (
    ("sum_squares", "block_sums", sum_squares),
    ("sum_squares", "block_sums", subnormal_squares),
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
        pytest.fail(f"{error}: these tests need `pip install -e '.[cuda13]'`", pytrace=False)
