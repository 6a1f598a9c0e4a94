"""The variants of a kernel: one module each, of which only the chosen one is imported."""

import importlib
import importlib.util
from types import ModuleType

VARIANTS = ("numpy", "numba", "cuda", "cupy")
GPU_VARIANTS = ("cuda", "cupy")


def of(kernel: ModuleType) -> tuple[str, ...]:
    """Return the variants that a kernel has: those with a module ``<variant>_`` in its package."""
    name = kernel.__name__
    if not hasattr(kernel, "__path__"):
        return ()
    return tuple(v for v in VARIANTS if importlib.util.find_spec(f"{name}.{v}_") is not None)


def load(kernel: ModuleType, variant: str) -> ModuleType:
    """Import one variant of a kernel, and nothing that the other variants need.

    Parameters
    ----------
    kernel : module
        Its package, for example `kernels.sum_squares`.
    variant : str
        One of `of` (kernel).

    Raises
    ------
    ImportError
        The kernel has no such variant, or the variant's library is not installed.
    """
    return importlib.import_module(f"{kernel.__name__}.{variant}_")
