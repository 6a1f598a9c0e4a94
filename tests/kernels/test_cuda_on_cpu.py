"""The launcher itself: what a GPU computes it computes, and what a GPU may get wrong it shows."""

import numpy as np
import pytest

from tests.kernels.cuda_on_cpu import RawKernel

pytestmark = pytest.mark.cuda_compile

ORDERS = pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reversed"])

BLOCK_SUM = r"""
extern "C" __global__ void kernel(const double* x, double* out)
{
    __shared__ double sums[64];
    SET
    sums[threadIdx.x] ASSIGN x[blockIdx.x * 64 + threadIdx.x];
    for (int width = 32; width > 0; width /= 2) {
        BARRIER;
        if (threadIdx.x < width)
            sums[threadIdx.x] += sums[threadIdx.x + width];
    }
    if (threadIdx.x == 0)
        out[blockIdx.x] = sums[0];
}
"""


def block_sum(reverse, assign="=", set_="", barrier="__syncthreads()"):
    macros = (f"-DASSIGN={assign}", f"-DSET={set_}", f"-DBARRIER={barrier}")
    out = np.zeros(3)
    kernel = RawKernel(BLOCK_SUM, "kernel", macros, reverse=reverse)
    kernel((3,), (64,), (np.arange(192.0), out))
    return out


def run(body, *args, threads=32, reverse=False, parameters="long long* out"):
    code = f'extern "C" __global__ void kernel({parameters})\n{{\n{body}\n}}'
    RawKernel(code, "kernel", reverse=reverse)((1,), (threads,), args)
    return args[0]


@ORDERS
def test_block_sum(reverse):
    expected = np.arange(192.0).reshape(3, 64).sum(axis=1)
    np.testing.assert_array_equal(block_sum(reverse), expected)


@pytest.mark.parametrize("barrier", ["", "__syncwarp()"])
def test_missing_barrier_shows_in_the_order_of_threads(barrier):
    forward, backward = (block_sum(reverse, barrier=barrier) for reverse in (False, True))
    assert not np.array_equal(forward, backward, equal_nan=True)


def test_missing_warp_barrier_shows_in_the_order_of_threads():
    body = """__shared__ long long seen[32];
        seen[threadIdx.x] = threadIdx.x;
        BARRIER
        out[threadIdx.x] = seen[threadIdx.x ^ 1];"""
    for barrier, agree in (("__syncwarp();", True), ("", False)):
        code = body.replace("BARRIER", barrier)
        forward, backward = (run(code, np.zeros(32, int), reverse=r) for r in (False, True))
        assert np.array_equal(forward, backward) == agree


@ORDERS
def test_uninitialised_shared_memory_is_nan_in_every_block(reverse):
    assert np.isnan(block_sum(reverse, assign="+=")).all()
    assert not np.isnan(block_sum(reverse, assign="+=", set_="sums[threadIdx.x]=0;")).any()


def test_shared_memory_that_nobody_writes_is_poisoned():
    body = "__shared__ long long never[32]; out[threadIdx.x] = never[threadIdx.x];"
    assert (run(body, np.zeros(32, int)) == -1).all()


@pytest.mark.parametrize(
    "body",
    [
        "if (threadIdx.x < 16) __syncthreads();",
        "if (threadIdx.x < 16) return;\n__syncthreads();",
        "if (threadIdx.x < 16)\n__syncthreads();\nelse\n__syncthreads();",
        "if (threadIdx.x < 16) __syncwarp(); else __syncthreads();",
        "if (threadIdx.x < 16) __syncwarp(0xffff0000);",
        "out[0] = __shfl_sync(0xffff0000, 1, 16);",
    ],
)
@ORDERS
def test_barrier_divergence_is_an_error(body, reverse):
    with pytest.raises(RuntimeError, match="barrier divergence"):
        run(body, np.zeros(1, int), reverse=reverse)


@ORDERS
def test_warp_barriers_of_parts_of_a_warp(reverse):
    body = """if (threadIdx.x == 3) return;
        const unsigned mask = threadIdx.x < 16 ? 0xffff : 0xffff0000;
        if (threadIdx.x < 16) __syncwarp(mask); else { __syncwarp(mask); __syncwarp(mask); }
        out[threadIdx.x] = 1;"""
    assert run(body, np.zeros(32, int), reverse=reverse).sum() == 31


SHUFFLES = (
    ("__shfl_sync(~0u, lane, 5)", lambda lane: 5),
    ("__shfl_sync(~0u, lane, 11, 8)", lambda lane: lane // 8 * 8 + 3),
    ("__shfl_up_sync(~0u, lane, 3)", lambda lane: lane - 3 if lane >= 3 else lane),
    ("__shfl_up_sync(~0u, lane, 3, 8)", lambda lane: lane - 3 if lane % 8 >= 3 else lane),
    ("__shfl_down_sync(~0u, lane, 3)", lambda lane: lane + 3 if lane < 29 else lane),
    ("__shfl_down_sync(~0u, lane, 3, 8)", lambda lane: lane + 3 if lane % 8 < 5 else lane),
    ("__shfl_xor_sync(~0u, lane, 5)", lambda lane: lane ^ 5),
    # A later segment of the warp is out of reach, an earlier one is not.
    ("__shfl_xor_sync(~0u, lane, 8, 8)", lambda lane: lane ^ 8 if lane & 8 else lane),
)


@ORDERS
def test_shuffles(reverse):
    # Two warps, of which the second must not reach into the first.
    lines = (
        f"out[{64 * row} + threadIdx.x] = threadIdx.x - lane + {call};"
        for row, (call, _) in enumerate(SHUFFLES)
    )
    body = "const int lane = threadIdx.x % 32;\n" + "\n".join(lines)
    out = run(body, np.zeros((len(SHUFFLES), 64), int), threads=64, reverse=reverse)
    for row, (call, source) in zip(out, SHUFFLES, strict=True):
        expected = [source(lane) + first for first in (0, 32) for lane in range(32)]
        assert row.tolist() == expected, call


def test_shuffle_from_a_lane_that_takes_no_part_reads_nan():
    body = """if (threadIdx.x < 16)
        out[threadIdx.x] = __shfl_down_sync(MASK, 1.0, 8);"""
    # The other half of the warp goes another way, or is not there.
    for mask, threads in (("0xffff", 32), ("~0u", 16)):
        code = body.replace("MASK", mask)
        out = run(code, np.zeros(16), threads=threads, parameters="double* out")
        assert np.isnan(out).tolist() == [False] * 8 + [True] * 8


def test_atomic_add_returns_what_was_there():
    out = run("out[1 + threadIdx.x] = atomicAdd(out, 2);", np.zeros(33, int))
    assert out.tolist() == [64, *range(0, 64, 2)]


def test_indices_in_three_dimensions():
    code = """extern "C" __global__ void kernel(int* out)
    {
        const int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
        const int block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
        out[block * blockDim.x * blockDim.y * blockDim.z + thread] += 1 + thread + 100 * block;
    }"""
    out = np.zeros((24, 24), np.int32)
    RawKernel(code, "kernel")((2, 3, 4), (4, 3, 2), (out,))
    expected = 1 + np.arange(24) + 100 * np.arange(24)[:, None]
    np.testing.assert_array_equal(out, expected)


def test_every_operation_is_rounded():
    body = """out[0] = out[0] * out[0] + out[1];
        out[1] = __fma_rn(out[2], out[2], out[1]);"""
    value = 1 + 2.0**-30
    out = run(body, np.array([value, -1.0, value]), threads=1, parameters="double* out")
    assert out[0] == value * value - 1
    assert out[1] == 2.0**-29 + 2.0**-60


@pytest.mark.parametrize("index", [-1, 32])
def test_array_bounds(index):
    out = run(f"out[0] = out[{index}];", np.zeros(32), threads=1, parameters="double* out")
    assert np.isnan(out[0])
    with pytest.raises(RuntimeError, match="beyond the end of argument 0"):
        run(f"out[{index}] = 0;", np.zeros(32), threads=1, parameters="double* out")


@pytest.mark.parametrize(
    "args", [(np.zeros(1, np.float32), 1), (np.zeros(1), 1.0), (np.zeros(1),), (np.zeros(1), 1, 1)]
)
def test_arguments_of_the_wrong_type_or_number(args):
    with pytest.raises(RuntimeError, match=r"takes \*f8 i8 but is given"):
        run("", *args, parameters="const double* x, long long n")


@pytest.mark.parametrize(("grid", "block"), [((0,), (32,)), ((1,), (2048,)), ((1,), (0, 4))])
def test_invalid_launch(grid, block):
    with pytest.raises(ValueError, match="invalid launch"):
        RawKernel('extern "C" __global__ void kernel() {}', "kernel")(grid, block, ())


def test_source_with_an_error_and_unknown_options():
    with pytest.raises(RuntimeError, match=r"kernel:2:.*error"):
        RawKernel('extern "C" __global__ void kernel()\n{ nonsense; }', "kernel")
    with pytest.raises(ValueError, match="--use_fast_math"):
        RawKernel("", "kernel", ("--use_fast_math",))
