"""Compile CUDA kernels to machine code without a GPU, and find what would cost speed or bits."""

import importlib
import re
import struct
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np


@dataclass(frozen=True)
class MachineCode:
    """What the assembler reports of a kernel, and what its instructions show."""

    registers: int
    stack_bytes: int
    spill_bytes: int
    double_fmas: int
    double_products: int
    # Bytes that each load from global memory brings, one entry an instruction.
    loads: tuple[int, ...]

    def faults(self) -> list[str]:
        """Name what a kernel of this project must not have."""
        found = {
            "local memory": self.stack_bytes,
            "spilled registers": self.spill_bytes,
            "fused multiply-add of doubles": self.double_fmas,
        }
        return [name for name, amount in found.items() if amount]


def compile_numba(kernel: Any, signature: str, arch: int) -> MachineCode:
    """Compile a `numba.cuda` kernel the way a launch on ``sm_<arch>`` would.

    That includes link-time optimisation, Numba's default, which makes other code than PTX does.
    """
    from numba import cuda

    options = kernel.targetoptions
    capability = divmod(arch, 10)
    # Device functions that a kernel calls are compiled for the current device, of which there is
    # none; its capability is all that they ask for.
    device = SimpleNamespace(compute_capability=capability)
    with mock.patch("numba.cuda.dispatcher.get_current_device", lambda: device):
        code, _ = cuda.compile(
            kernel.py_func,
            signature,
            cc=capability,
            device=False,
            abi="numba",
            output="ltoir" if options["lto"] else "ptx",
            **{name: options[name] for name in ("fastmath", "opt", "launch_bounds")},
        )
    limit = options.get("max_registers")
    return _assemble(code, arch, *([f"-maxrregcount={limit}"] if limit else []))


def compile_raw(source: str, options: tuple[str, ...], arch: int) -> MachineCode:
    """Compile the source of a `cupy.RawKernel` for ``sm_<arch>``."""
    return _assemble(raw_ptx(source, options, arch), arch)


def raw_ptx(source: str, options: tuple[str, ...], arch: int) -> str:
    """Compile the source of a `cupy.RawKernel` to PTX with CuPy's own compiler."""
    compiler = importlib.import_module("cupy.cuda.compiler")
    # CuPy asks the device what to compile for.
    target = f"-arch=compute_{arch}", "ptx"
    with mock.patch.object(compiler, "_get_arch_for_options_for_nvrtc", lambda arch=None: target):
        # CuPy adds -ftz=true to the options of every kernel.
        ptx, _ = compiler.compile_using_nvrtc(source, (*options, "-ftz=true"), arch=str(arch))
    return ptx.decode()


def _assemble(code: bytes | str, arch: int, *options: str) -> MachineCode:
    nvjitlink = importlib.import_module("cuda.bindings.nvjitlink")
    kind = nvjitlink.InputType.PTX
    arguments = [f"-arch=sm_{arch}", "-verbose", *options]
    if isinstance(code, bytes):
        kind = nvjitlink.InputType.LTOIR
        arguments.append("-lto")
    else:
        code = code.encode()
    handle = nvjitlink.create(len(arguments), arguments)
    try:
        nvjitlink.add_data(handle, kind, code, len(code), "kernel")
        nvjitlink.complete(handle)
        cubin = bytearray(nvjitlink.get_linked_cubin_size(handle))
        nvjitlink.get_linked_cubin(handle, cubin)
        log = bytearray(nvjitlink.get_info_log_size(handle))
        nvjitlink.get_info_log(handle, log)
    finally:
        nvjitlink.destroy(handle)
    instructions = Instructions(bytes(cubin))

    def total(pattern: str) -> int:
        amounts = re.findall(pattern, log.decode())
        # A report that can't be read must not pass for one without faults.
        assert amounts, f"{pattern} not found in the assembler's report:\n{log.decode()}"
        return sum(map(int, amounts))

    return MachineCode(
        registers=total(r"Used (\d+) registers"),
        stack_bytes=total(r"(\d+) bytes stack frame"),
        spill_bytes=total(r"(\d+) bytes spill (?:stores|loads)"),
        double_fmas=instructions.count(DFMA),
        double_products=instructions.count(DMUL),
        loads=instructions.loads(),
    )


# The lowest 9 bits of an instruction.
DMUL, DFMA, LDG = 0x028, 0x02B, 0x181
# What the 3 bits from bit 73 on of a load stand for: 8 bits with and without sign, 16 likewise, 32,
# 64, 128.
LOAD_BYTES = (1, 1, 2, 2, 4, 8, 16)


class Instructions:
    """The instructions of an ELF file for compute capability 7.0 to 10.x.

    Each takes 16 bytes, of which the lowest 9 bits say what it does, and the next 3 where its
    operands are. A kernel that divides doubles or takes their roots has DFMAs by design: the GPU's
    exact division is made of them.
    """

    def __init__(self, cubin: bytes) -> None:
        (table,) = struct.unpack_from("<Q", cubin, 0x28)
        size, number = struct.unpack_from("<HH", cubin, 0x3A)
        parts = []
        for header in range(table, table + size * number, size):
            flags, _, offset, length = struct.unpack_from("<4Q", cubin, header + 8)
            if flags & 0x4:  # SHF_EXECINSTR
                parts.append(np.frombuffer(cubin, "<u8", length // 8, offset).reshape(-1, 2))
        assert parts, "no machine code in the file"
        self.words = np.concatenate(parts)

    def count(self, operation: int) -> int:
        """Count the instructions of one kind."""
        return int(np.count_nonzero(self.words[:, 0] & 0x1FF == operation))

    def loads(self) -> tuple[int, ...]:
        """Return the bytes that each load from global memory brings."""
        loads = self.words[self.words[:, 0] & 0x1FF == LDG]
        return tuple(LOAD_BYTES[size] for size in (loads[:, 1] >> 9 & 0x7).tolist())
