"""The CuPy variants: their CUDA source on the CPU everywhere, and on a GPU where there is one.

On the CPU `cupy.RawKernel` is replaced, so that a variant's own options, launch shape and arguments
are tested with its source.
"""

import functools
import importlib
import importlib.util

import numpy as np
import pytest

from kernels import mandelbrot
from kernels.sum_squares import BLOCK
from rankwise.node import variants
from tests.kernels.cuda_cases import Case, every_case, need, plates
from tests.kernels.cuda_on_cpu import RawKernel

pytestmark = pytest.mark.cuda_compile

GPU = importlib.util.find_spec("cupy") is not None and need("cupy").cuda.is_available()


@every_case
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reversed"])
def test_bits_on_the_cpu(case: Case, reverse: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(need("cupy"), "RawKernel", functools.partial(RawKernel, reverse=reverse))
    module = importlib.import_module(f"kernels.{case.folder}.cupy_")
    # Without its cache, which may hold a kernel for the GPU and must not keep one for the CPU.
    monkeypatch.setattr(module, "_kernel", module._kernel.__wrapped__)
    case.check("cupy")


def test_more_rows_than_thread_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    need("cupy")
    monkeypatch.setattr(importlib.import_module("kernels.heat.cupy_"), "GRID_ROWS", 2)
    test_bits_on_the_cpu(Case("heat", "step", (*plates(37, 3), 0.25)), False, monkeypatch)


def test_an_array_that_begins_between_16_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    need("cupy")
    monkeypatch.setattr("tests.kernels.cuda_on_cpu.GUARD", 4096 + 8)
    x = np.random.default_rng(0).standard_normal(2 * BLOCK)
    case = Case("sum_squares", "block_sums", (x, np.full(2, np.nan)))
    test_bits_on_the_cpu(case, False, monkeypatch)


@pytest.mark.parametrize("variant", ["cuda", "cupy"])
def test_points_of_the_mandelbrot_set_at_once(variant: str) -> None:
    need("cupy")
    assert variants.load(mandelbrot, variant).at_once(10**5) == mandelbrot.at_once_on_gpu(10**5)


# Defined only where there is a GPU: elsewhere nothing is left out, since the source has run above.
if GPU:

    @every_case
    def test_bits_on_the_gpu(case: Case) -> None:
        cupy = need("cupy")
        case.check("cupy", cupy.asarray, cupy.asnumpy)
