"""Add and multiply on the GPU, each rounded by itself, for the Numba CUDA kernels."""

from numba import config, cuda
from numba.cuda import libdevice

if config.ENABLE_CUDASIM:

    @cuda.jit(device=True)
    def add(a, b):  # type: ignore[no-untyped-def]
        return a + b

    @cuda.jit(device=True)
    def multiply(a, b):  # type: ignore[no-untyped-def]
        return a * b

else:
    # These two keep the compiler from fusing multiply and add, which it does even without fastmath.
    # The simulator has no libdevice functions, and Python has nothing to fuse.
    @cuda.jit(device=True)
    def add(a, b):  # type: ignore[no-untyped-def]
        return libdevice.dadd_rn(a, b)

    @cuda.jit(device=True)
    def multiply(a, b):  # type: ignore[no-untyped-def]
        return libdevice.dmul_rn(a, b)
