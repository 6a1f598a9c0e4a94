"""Compile CUDA C++ for the CPU and launch it over NumPy arrays, in place of `cupy.RawKernel`."""

import ctypes
import functools
import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HEADER = Path(__file__).with_suffix(".h")

# Bytes 0xff on both sides of each array: read, they are NaN; written, they are noticed.
GUARD = 4096

# Contraction stays off even at GCC's highest levels, so that a kernel rounds where it says so.
# A kernel may have the name of a function of the C library: `step` is one, in glibc.
OPTIONS = ("-std=c++17", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wl,-Bsymbolic")

ENTRY = """
extern "C" const char* codes() {{ return cuda_on_cpu::codes({name}); }}
extern "C" bool launch(const unsigned* shape, bool reversed, void** values)
{{
    return cuda_on_cpu::launch<{name}>(shape, reversed, values);
}}
"""


class RawKernel:
    """A kernel that is called like a `cupy.RawKernel`, with NumPy arrays.

    Parameters
    ----------
    code, name, options
        As for `cupy.RawKernel`. Of the options only macros and the choice of contraction make
        sense here; any other is an error.
    reverse : bool
        Let the last thread of a block, and the last block, go first.

    Raises
    ------
    RuntimeError
        The source does not compile, or a launch finds barrier divergence, arguments of the wrong
        type, or a write beyond the end of an array.
    """

    def __init__(
        self, code: str, name: str, options: Sequence[str] = (), *, reverse: bool = False
    ) -> None:
        self.name = name
        self.reverse = reverse
        self._library = _compile(code, name, tuple(options))

    def __call__(self, grid: Sequence[int], block: Sequence[int], args: Sequence[Any]) -> None:
        shape = (*grid, *(1,) * (3 - len(grid)), *block, *(1,) * (3 - len(block)))
        if min(shape) < 1 or math.prod(shape[3:]) > 1024:
            raise ValueError(f"invalid launch: grid {tuple(grid)}, block {tuple(block)}")
        values = [_Argument(value) for value in args]
        given = "".join(value.code + " " for value in values)
        taken = self._library.codes().decode()
        if given != taken:
            raise RuntimeError(f"{self.name}: takes {taken}but is given {given}")
        addresses = (ctypes.c_void_p * len(values))(*(value.address for value in values))
        if not self._library.launch((ctypes.c_uint * 6)(*shape), self.reverse, addresses):
            raise RuntimeError(f"{self.name}: barrier divergence, some threads wait for ever")
        for position, value in enumerate(values):
            if not value.write_back():
                raise RuntimeError(f"{self.name}: writes beyond the end of argument {position}")


class _Argument:
    """One argument of a launch: a scalar, or a guarded copy of an array."""

    def __init__(self, value: Any) -> None:
        self.array = value if isinstance(value, np.ndarray) else None
        # Like CuPy, which passes a Python int as `long long` and a float as `double`.
        data = np.ascontiguousarray(value)
        self.code = ("*" if self.array is not None else "") + data.dtype.str[1:]
        self.bytes = np.full(data.nbytes + 2 * GUARD, 0xFF, np.uint8)
        self.bytes[GUARD : GUARD + data.nbytes] = data.reshape(-1).view(np.uint8)
        self.address = self.bytes.ctypes.data + GUARD
        if self.array is not None:
            self.pointer = ctypes.c_void_p(self.address)
            self.address = ctypes.addressof(self.pointer)

    def write_back(self) -> bool:
        """Copy the array back, and return whether its guards are whole."""
        if self.array is not None:
            data = self.bytes[GUARD:-GUARD].view(self.array.dtype)
            self.array[...] = data.reshape(self.array.shape)
        return bool((self.bytes[:GUARD] == 0xFF).all() and (self.bytes[-GUARD:] == 0xFF).all())


def _compiler() -> list[str]:
    """Return the machine's C++ compiler, or the one of the extra ``cxx``, which takes longer."""
    own = os.environ.get("CXX") or shutil.which("g++")
    return [own] if own else [sys.executable, "-m", "ziglang", "c++"]


@functools.cache
def _compile(code: str, name: str, options: tuple[str, ...]) -> ctypes.CDLL:
    macros = [option for option in options if option.startswith("-D")]
    others = set(options) - set(macros) - {"--fmad=false", "--fmad=true"}
    if others:
        raise ValueError(f"options that mean nothing on a CPU: {', '.join(sorted(others))}")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, f"{name}.cpp")
        source.write_text(f'#include "{HEADER}"\n#line 1 "{name}"\n{code}{ENTRY.format(name=name)}')
        library = source.with_suffix(".so")
        command = [*_compiler(), *OPTIONS, *macros, "-o", str(library), str(source)]
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            raise RuntimeError(f"{name} does not compile:\n{result.stderr}")
        loaded = ctypes.CDLL(str(library))
    loaded.codes.restype = ctypes.c_char_p
    loaded.launch.restype = ctypes.c_bool
    loaded.launch.argtypes = (ctypes.c_void_p, ctypes.c_bool, ctypes.c_void_p)
    return loaded
