"""Start a program to which the kernel refuses file locks, as some file systems do.

    python -m tests.failures.no_locks ENOLCK mpirun -n 2 python jobs/sum_squares.py --input x.h5:/x

`flock` gives the error, by name or number, in the program and in all that it starts, whichever
library calls it: by a filter of system calls, see seccomp(2) and bpf(4). Root is not needed.
"""

import ctypes
import errno
import os
import platform
import sys

# Of flock, from Linux's tables of system calls.
CALL = {"x86_64": 73, "aarch64": 32, "ppc64le": 143}
NO_NEW_PRIVILEGES, SET_SECCOMP, FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
REFUSE, ALLOW = 0x0005_0000, 0x7FFF_0000


class Instruction(ctypes.Structure):
    """``struct sock_filter``."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8),
                ("k", ctypes.c_uint32))  # fmt: skip


class Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction)))


def refuse(number):
    """Let `flock` fail with this error number, in this process and its children, for ever."""
    code = (Instruction * 4)(
        (LOAD, 0, 0, 0),
        (JUMP_IF_EQUAL, 0, 1, CALL[platform.machine()]),
        (RETURN, 0, 0, REFUSE | number),
        (RETURN, 0, 0, ALLOW),
    )
    program, c = Program(len(code), code), ctypes.CDLL(None, use_errno=True)
    for call in ((NO_NEW_PRIVILEGES, 1, 0, 0, 0), (SET_SECCOMP, FILTER, ctypes.byref(program))):
        if c.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    name, *command = sys.argv[1:]
    refuse(getattr(errno, name, None) or int(name))
    os.execvp(command[0], command)
