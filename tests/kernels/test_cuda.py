"""The Numba CUDA variants: on a GPU where there is one, else in the simulator's own process."""

import importlib

import pytest

from tests.kernels.cuda_cases import Case, every_case, need, plates


def gpu() -> bool:
    try:
        from numba import config, cuda
    except ImportError:
        return False
    return not config.ENABLE_CUDASIM and cuda.is_available()


pytestmark = pytest.mark.cuda_compile if gpu() else pytest.mark.cudasim


@every_case
def test_bits(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = need("numba.cuda")
    if not cuda.is_available():
        pytest.fail("no GPU: NUMBA_ENABLE_CUDASIM=1 python -m pytest -m cudasim", pytrace=False)
    if case.empty:
        # A grid without blocks is an error on a GPU, which the simulator lets pass.
        module = importlib.import_module(f"kernels.{case.folder}.cuda_")
        for name in vars(module):
            if name.endswith("kernel"):
                monkeypatch.setattr(module, name, None)
    case.check("cuda", cuda.to_device, lambda array: array.copy_to_host())


def test_more_rows_than_thread_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    need("numba.cuda")
    monkeypatch.setattr(importlib.import_module("kernels.heat.cuda_"), "GRID_ROWS", 2)
    test_bits(Case("heat", "step", (*plates(37, 3), 0.25)), monkeypatch)
