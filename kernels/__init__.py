"""Computations, one folder each, one file per variant. No MPI and no input or output here."""

import importlib
import importlib.util
from types import ModuleType

VARIANTS = ("numpy", "numba", "cuda", "cupy")


def load(name: str, variant: str) -> ModuleType:
    """Import one variant of a kernel, and nothing that the other variants need.

    Parameters
    ----------
    name : str
        Folder of the kernel, for example ``"sum_squares"``.
    variant : str
        One of `VARIANTS`.

    Returns
    -------
    module
        ``kernels.<name>.<variant>_``.

    Raises
    ------
    ValueError
        ``variant`` is none of `VARIANTS`.
    NotImplementedError
        The kernel has no such variant.
    ImportError
        The variant's library is not installed.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}: choose from {', '.join(VARIANTS)}")
    module = f"kernels.{name}.{variant}_"
    if importlib.util.find_spec(module) is None:
        there = [v for v in VARIANTS if importlib.util.find_spec(f"kernels.{name}.{v}_")]
        raise NotImplementedError(
            f"kernel {name!r} has no variant {variant!r}: take --variant {' or '.join(there)}"
        )
    return importlib.import_module(module)
