"""CUDA kernels compiled for real architectures, without a GPU.

A second kernel folder joins by one row in `NUMBA` for each signature of each of its Numba kernels,
and one in `RAW` for each set of options of its source.
"""

import importlib

import numpy as np
import pytest

from tests.kernels.cuda_cases import need
from tests.kernels.cuda_machine_code import compile_numba, compile_raw, raw_ptx

pytestmark = pytest.mark.cuda_compile

# A100, H100 and H200, B200.
every_arch = pytest.mark.parametrize("arch", [80, 90, 100])

ESCAPES = "void(int64, int32[::1], float64[::1], float64[::1], int64)"

# Folder, name of a kernel in its `cuda_`, and signature.
NUMBA = [
    ("sum_squares", "kernel", "void(float64[::1], float64[::1])"),
    ("sum_squares", "kernel", "void(float32[::1], float64[::1])"),
    ("heat", "kernel", "void(float64[:, ::1], float64[:, ::1], float64)"),
    (
        "k_means",
        "kernel",
        "void(float64[:, ::1], float64[:, ::1], int32[::1], int64[:, ::1], float64[::1], float64)",
    ),
    ("mandelbrot", "kernel", ESCAPES),
    ("mandelbrot", "period_kernel", ESCAPES),
]

# Folder and arguments of its `cupy_.options`.
RAW: list[tuple[str, tuple[str, ...]]] = [
    ("sum_squares", ("float64",)),
    ("sum_squares", ("float32",)),
    ("heat", ()),
    ("k_means", ()),
    ("mandelbrot", ()),
]

SUM = """
extern "C" __global__ void sum(const double* x, double* out, int n)
{
    double total = 0.0;
    for (int i = threadIdx.x; i < n; i += blockDim.x)
        total += x[i] * x[i];
    out[threadIdx.x] = total;
}
"""

# More values alive at the barrier than the 64 registers that 1024 threads leave each of them.
SPILL = """
extern "C" __global__ void __launch_bounds__(1024) spill(double* x)
{
    double values[64];
    #pragma unroll
    for (int i = 0; i < 64; ++i)
        values[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < 64; ++i)
        x[i * 1024 + threadIdx.x] = __dmul_rn(values[i], values[63 - i]);
}
"""

# An index known only at run time keeps an array out of registers.
LOCAL = """
extern "C" __global__ void local(const int* index, double* out)
{
    double values[64];
    for (int i = 0; i < 64; ++i)
        values[index[i]] = i;
    out[threadIdx.x] = values[index[threadIdx.x]];
}
"""


@pytest.fixture(autouse=True, scope="module")
def compilers() -> None:
    """Fail with what to do where a compiler is missing."""
    if need("numba.core.config").ENABLE_CUDASIM:
        pytest.fail("the simulator compiles nothing: unset NUMBA_ENABLE_CUDASIM", pytrace=False)
    need("numba.cuda")
    need("cupy")
    need("cuda.bindings.nvjitlink")
    for library in ("nvvm", "nvrtc", "nvJitLink"):
        try:
            need("cuda.pathfinder").load_nvidia_dynamic_lib(library)
        except RuntimeError as error:
            pytest.fail(f"{error}: `pip install -e '.[cuda13]'`", pytrace=False)


@every_arch
@pytest.mark.parametrize(("folder", "name", "signature"), NUMBA)
def test_numba_kernel(folder: str, name: str, signature: str, arch: int) -> None:
    kernel = getattr(importlib.import_module(f"kernels.{folder}.cuda_"), name)
    code = compile_numba(kernel, signature, arch)
    assert code.faults() == [], code


@every_arch
@pytest.mark.parametrize(("folder", "choices"), RAW)
def test_raw_kernel(folder: str, choices: tuple[str, ...], arch: int) -> None:
    variant = importlib.import_module(f"kernels.{folder}.cupy_")
    code = compile_raw(variant.SOURCE, variant.options(*choices), arch)
    assert code.faults() == [], code


@every_arch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sum_squares_reads_each_element_once_and_16_bytes_a_load(dtype: str, arch: int) -> None:
    variant = importlib.import_module("kernels.sum_squares.cupy_")
    code = compile_raw(variant.SOURCE, variant.options(dtype), arch)
    size = np.dtype(dtype).itemsize
    # Each element is squared once: so many bytes are loaded for each square.
    assert sum(code.loads) == size * code.double_products
    # The others are those of a last block, or of an array that begins between 16 bytes.
    assert set(code.loads) == {16, size}
    assert code.loads.count(16) >= 8


@every_arch
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sum_squares_of_numba_reads_each_element_once(dtype: str, arch: int) -> None:
    kernel = importlib.import_module("kernels.sum_squares.cuda_").kernel
    code = compile_numba(kernel, f"void({dtype}[::1], float64[::1])", arch)
    size = np.dtype(dtype).itemsize
    assert set(code.loads) == {size}
    assert len(code.loads) == code.double_products


@every_arch
@pytest.mark.parametrize(
    ("kind", "size"), [("char", 1), ("short", 2), ("float", 4), ("double", 8), ("double2", 16)]
)
def test_tells_how_many_bytes_a_load_brings(kind: str, size: int, arch: int) -> None:
    source = f"{kind}* out, const {kind}* x) {{ out[threadIdx.x + 1] = x[threadIdx.x]; }}"
    code = compile_raw(f'extern "C" __global__ void copy({source}', (), arch)
    assert code.loads == (size,)


@pytest.mark.parametrize(("folder", "choices"), RAW)
def test_raw_kernel_flushes_no_subnormal(folder: str, choices: tuple[str, ...]) -> None:
    """A flushed float32 input would change the bits of a result; no other variant flushes."""
    variant = importlib.import_module(f"kernels.{folder}.cupy_")
    ptx = raw_ptx(variant.SOURCE, variant.options(*choices), 80)
    assert [line.strip() for line in ptx.splitlines() if ".ftz" in line] == []


@every_arch
def test_finds_fma_in_numba_kernel(arch: int) -> None:
    from numba import cuda

    @cuda.jit
    def kernel(x, out):
        total = 0.0
        for i in range(cuda.threadIdx.x, x.size, cuda.blockDim.x):
            total += x[i] * x[i]
        out[cuda.threadIdx.x] = total

    code = compile_numba(kernel, "void(float64[::1], float64[::1])", arch)
    assert code.faults() == ["fused multiply-add of doubles"], code


@every_arch
def test_finds_fma_in_raw_kernel(arch: int) -> None:
    code = compile_raw(SUM, (), arch)
    assert code.faults() == ["fused multiply-add of doubles"], code
    assert compile_raw(SUM, ("--fmad=false",), arch).faults() == []


@every_arch
def test_finds_spills_in_numba_kernel(arch: int) -> None:
    from numba import cuda, float64

    @cuda.jit(max_registers=24)
    def kernel(x, out):
        values = cuda.local.array(32, float64)
        for i in range(32):
            values[i] = x[i]
        cuda.syncthreads()
        for i in range(32):
            out[i] = values[i]

    code = compile_numba(kernel, "void(float64[::1], float64[::1])", arch)
    assert "spilled registers" in code.faults(), code


@every_arch
def test_finds_spills_in_raw_kernel(arch: int) -> None:
    code = compile_raw(SPILL, (), arch)
    assert "spilled registers" in code.faults(), code


@every_arch
def test_finds_local_memory_in_numba_kernel(arch: int) -> None:
    from numba import cuda, float64

    @cuda.jit
    def kernel(index, out):
        values = cuda.local.array(64, float64)
        for i in range(64):
            values[index[i]] = i
        out[cuda.threadIdx.x] = values[index[cuda.threadIdx.x]]

    code = compile_numba(kernel, "void(int32[::1], float64[::1])", arch)
    assert code.faults() == ["local memory"], code


@every_arch
def test_finds_local_memory_in_raw_kernel(arch: int) -> None:
    code = compile_raw(LOCAL, (), arch)
    assert code.faults() == ["local memory"], code


def test_finds_flushed_subnormals() -> None:
    source = SUM.replace("const double*", "const float*")
    assert ".ftz" in raw_ptx(source, (), 80)


def test_source_with_an_error_is_reported() -> None:
    from cupy.cuda.compiler import CompileException

    with pytest.raises(CompileException, match="nonsense"):
        compile_raw('extern "C" __global__ void kernel() { nonsense; }', (), 80)
