"""What a rank runs on: the cores it may use, its threads, its GPU."""

import ctypes
import importlib.util
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.node import compilation, groups, numba_threads, openmp
from rankwise.node.cores import hardware_threads
from rankwise.node.variants import GPU_VARIANTS, VARIANTS
from rankwise.ranks.agreement import Stop, agreement

if TYPE_CHECKING:
    from mpi4py import MPI

_INSTALL = "pip install -e '.[cuda13]' (or '.[cuda12]', to match the driver)"


@dataclass(frozen=True, eq=False)
class Device:
    """Where a rank keeps its arrays and runs its kernels. This one is the host.

    Attributes
    ----------
    variant : str
        Variant of the kernel that runs here: ``numpy``, ``numba``, ``cuda`` or ``cupy``.
    name : str
        The GPU's name and UUID, or ``host``.
    threads : int
        Threads of this rank on the host.
    cores : tuple of int
        Numbers of the logical CPUs that this rank may run on.
    node : MPI.Comm
        The ranks of this node.
    nodes : int
        Number of nodes of the job.
    gpus : tuple of str
        Name and UUID of each GPU that this rank sees; empty if the variant wants none.
    mpi_reads_device : bool
        The MPI library takes addresses in the memory of the device (``--device-buffers``).
    notes : tuple of str
        What to warn of.
    """

    variant: str
    name: str
    threads: int
    cores: tuple[int, ...]
    node: "MPI.Comm" = field(repr=False)
    nodes: int
    gpus: tuple[str, ...] = ()
    mpi_reads_device: bool = False
    notes: tuple[str, ...] = ()

    def mpi_buffer(self, shape: int | tuple[int, ...], dtype: Any = np.float64) -> Any:
        """Return an array that MPI may fill: on the device if MPI can, else on the host."""
        return self.empty(shape, dtype) if self.mpi_reads_device else np.empty(shape, dtype)

    def for_mpi(self, x: Any) -> Any:
        """Return an array that MPI may send: ``x`` itself if it can, else a copy on the host."""
        return x if self.mpi_reads_device else self.to_host(x)

    def to_device(self, x: Any) -> Any:
        """Copy an array to the device; the array itself if it is there already."""
        return x

    def empty(self, shape: int | tuple[int, ...], dtype: Any = np.float64) -> Any:
        """Return an uninitialised array on the device."""
        return np.empty(shape, dtype)

    def to_host(self, x: Any) -> np.ndarray:
        """Copy an array from the device; the array itself if it is on the host already."""
        return x

    def update(self, x: Any, host: np.ndarray) -> None:
        """Copy an array of the host into one of the same shape on the device."""
        x[...] = host

    def synchronize(self) -> None:
        """Wait until the device has finished."""

    @property
    def is_gpu(self) -> bool:
        """Whether kernels take arrays of another memory than the host's."""
        return self.variant in GPU_VARIANTS

    # What a GPU can do at the same time as other things, in the order of a stream.

    def new_stream(self) -> Any:
        """Return a new stream, whose work does not wait for that of another such stream."""
        raise NotImplementedError

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        """Return page-locked memory of the host."""
        raise NotImplementedError

    def start_copy(self, host: np.ndarray, x: Any, stream: Any) -> None:
        """Begin to copy page-locked memory to an array on the device."""
        raise NotImplementedError

    def start_kernel(self, call: Callable[..., None], x: Any, out: Any, stream: Any) -> Any:
        """Begin a kernel, and return the events before and after it."""
        raise NotImplementedError

    def seconds_between(self, before: Any, after: Any) -> float:
        """Return the time between two events that are over [s]."""
        raise NotImplementedError


class _NumbaCuda(Device):
    def to_device(self, x: Any) -> Any:
        from numba import cuda

        return cuda.to_device(x)

    def empty(self, shape: int | tuple[int, ...], dtype: Any = np.float64) -> Any:
        from numba import cuda

        return cuda.device_array(shape, dtype)

    def to_host(self, x: Any) -> np.ndarray:
        return x if isinstance(x, np.ndarray) else x.copy_to_host()

    def update(self, x: Any, host: np.ndarray) -> None:
        x.copy_to_device(host)

    def synchronize(self) -> None:
        from numba import cuda

        cuda.synchronize()

    def new_stream(self) -> Any:
        from numba import cuda

        return cuda.stream()

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        from numba import cuda

        return cuda.pinned_array(shape, dtype)

    def start_copy(self, host: np.ndarray, x: Any, stream: Any) -> None:
        x.copy_to_device(host, stream=stream)

    def start_kernel(self, call: Callable[..., None], x: Any, out: Any, stream: Any) -> Any:
        from numba import cuda

        before, after = cuda.event(), cuda.event()
        before.record(stream)
        call(x, out, stream)
        after.record(stream)
        return before, after

    def seconds_between(self, before: Any, after: Any) -> float:
        # The simulator has no times, and says so by a negative one.
        return max(0.0, before.elapsed_time(after) / 1e3)


class _CuPy(Device):
    def to_device(self, x: Any) -> Any:
        import cupy

        return cupy.asarray(x)

    def empty(self, shape: int | tuple[int, ...], dtype: Any = np.float64) -> Any:
        import cupy

        return cupy.empty(shape, dtype)

    def to_host(self, x: Any) -> np.ndarray:
        return x if isinstance(x, np.ndarray) else x.get()

    def update(self, x: Any, host: np.ndarray) -> None:
        x.set(host)

    def synchronize(self) -> None:
        import cupy

        cupy.cuda.get_current_stream().synchronize()

    def new_stream(self) -> Any:
        import cupy

        return cupy.cuda.Stream(non_blocking=True)

    def pinned(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        import cupyx

        return cupyx.empty_pinned(shape, dtype)

    def start_copy(self, host: np.ndarray, x: Any, stream: Any) -> None:
        x.set(host, stream)

    def start_kernel(self, call: Callable[..., None], x: Any, out: Any, stream: Any) -> Any:
        import cupy

        before, after = cupy.cuda.Event(), cupy.cuda.Event()
        with stream:
            before.record()
            call(x, out)
            after.record()
        return before, after

    def seconds_between(self, before: Any, after: Any) -> float:
        import cupy

        return cupy.cuda.get_elapsed_time(before, after) / 1e3


def choose(
    comm: "MPI.Comm",
    variant: str,
    threads: int | None = None,
    device_buffers: bool = False,
    variants: Sequence[str] = VARIANTS,
) -> Device:
    """Settle which variant runs and on what, and prepare its library. Collective over `comm`.

    Ranks of a node take its GPUs in turn, by node-local rank; the cores of the node are divided
    among its ranks unless ``threads`` says otherwise.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    variant : str
        ``numpy``, ``numba``, ``cuda``, ``cupy``, or ``auto``: a GPU variant if every rank sees a
        GPU and has a library for it, else ``numba``, else ``numpy``; of those that there are.
    threads : int, optional
        Threads per rank, for the variant ``numba``; the others use one.
    device_buffers : bool
        Let MPI send from and receive into the memory of the device.
    variants : sequence of str
        Those that the kernel has.

    Returns
    -------
    Device
        The variant is the same on every rank.

    Raises
    ------
    Stop
        The kernel lacks the variant, or a rank the library or the GPU that it needs, or Numba
        refuses what the environment tells it.
    """
    from mpi4py import MPI

    with agreement(comm):
        if not variants:
            files = ", ".join(f"{variant}_.py" for variant in VARIANTS)
            raise Stop(f"the kernel is no folder with a variant: one of {files}")
    node = comm.Split_type(MPI.COMM_TYPE_SHARED)
    nodes = sum(comm.allgather(node.rank == 0))
    cores = tuple(sorted(os.sched_getaffinity(0)))
    gpus = visible_gpus() if variant in ("auto", *GPU_VARIANTS) else []
    if variant == "auto":
        variant = _automatic(comm, gpus, variants)
    with agreement(comm):
        if variant not in variants:
            there = " or ".join(variants)
            raise Stop(f"--variant {variant}: the kernel has none, take --variant {there}")
        _require(comm.rank, variant, gpus)
    name = "host"
    on_gpu = variant in GPU_VARIANTS
    if on_gpu:
        number = node.rank % len(gpus)
        name = gpus[number]
        with agreement(comm):
            _select_gpu(variant, number)
    # The other variants compute on one thread of the host, or on none.
    threads = (threads or default_threads(comm, cores)) if variant == "numba" else 1
    notes = _start_numba(comm, node, cores, threads) if variant == "numba" else []
    kind = {"cuda": _NumbaCuda, "cupy": _CuPy}.get(variant, Device)
    direct = device_buffers and on_gpu
    return kind(variant, name, threads, cores, node, nodes, tuple(gpus), direct, tuple(notes))


def _start_numba(
    comm: "MPI.Comm", node: "MPI.Comm", cores: tuple[int, ...], threads: int
) -> list[str]:
    """Start Numba's threads on these cores; return what to warn of. Collective over `comm`."""
    notes = openmp.prepare(node, cores, threads)
    with agreement(comm):
        notes += numba_threads.start(threads)
    notes += openmp.look_again(cores)
    return notes + compilation.use_private_folder(node)


def _automatic(comm: "MPI.Comm", gpus: list[str], variants: Sequence[str]) -> str:
    """Return the variant that all ranks can run, one for a GPU first. Collective over `comm`."""
    on_gpu = [v for v in GPU_VARIANTS if v in variants and gpus and _installed(v)]
    on_host = next((v for v in ("numba", "numpy") if v in variants), variants[0])
    wishes = set(comm.allgather(on_gpu[0] if on_gpu else on_host))
    return wishes.pop() if len(wishes) == 1 else on_host


def default_threads(comm: "MPI.Comm", cores: tuple[int, ...]) -> int:
    """Return the threads of this rank where nobody has asked for a number. Collective over `comm`.

    Those of its machine share the cores. To MPI a node may be less than that, for example where
    each rank is in a container of its own.
    """
    machines = comm.allgather(_machine())
    same = comm.Split(machines.index(machines[comm.rank]))
    threads = share_of_cores(same, cores)
    same.Free()
    return threads


def _machine() -> str:
    """Return what names the kernel that runs here; it is the same in all containers of a host."""
    with suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()
    from mpi4py import MPI

    return MPI.Get_processor_name()


def share_of_cores(node: "MPI.Comm", cores: tuple[int, ...]) -> int:
    """Divide the cores among the ranks that may run on them. Collective over `node`.

    A quota of the time of all cores, as containers have, is divided likewise: more threads would
    stand still for a part of each tenth of a second.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node.
    cores : tuple of int
        Logical CPUs that this rank may run on; hardware threads of one core count once.

    Returns
    -------
    int
        Cores that are this rank's, at least 1.
    """
    everyone = node.allgather(({physical_core(cpu) for cpu in cores}, groups.cpu_quotas()))
    mine, quotas = everyone[node.rank]
    share = sum(1 / sum(core in other for other, _ in everyone) for core in mine)
    for group, quota in quotas.items():
        share = min(share, quota / sum(group in other for _, other in everyone))
    # Thirds do not add up to a whole number exactly.
    return max(1, int(share + 1e-9))


def physical_core(cpu: int) -> int:
    """Return the first of the hardware threads that share a core with ``cpu``."""
    return hardware_threads(cpu)[0]


def visible_gpus() -> list[str]:
    """Return name and UUID of each NVIDIA GPU that this process may use.

    Asks the driver itself: neither Numba nor CuPy need be imported, or installed, to know.
    """
    if _simulated():
        return ["CUDA simulator"]
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    number = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(number)):
        return []
    import uuid

    names = []
    for index in range(number.value):
        handle = ctypes.c_int()
        text = ctypes.create_string_buffer(256)
        octets = (ctypes.c_ubyte * 16)()
        driver.cuDeviceGet(ctypes.byref(handle), index)
        driver.cuDeviceGetName(text, len(text), handle)
        # The second version tells the parts of a divided GPU from each other.
        get_uuid = getattr(driver, "cuDeviceGetUuid_v2", driver.cuDeviceGetUuid)
        get_uuid(octets, handle)
        names.append(f"{text.value.decode()} GPU-{uuid.UUID(bytes=bytes(octets))}")
    return names


def _installed(variant: str) -> bool:
    # Numba's own `numba.cuda` is frozen and finds no compiler; `numba_cuda` takes its place.
    module = {"numba": "numba", "cuda": "numba_cuda", "cupy": "cupy"}.get(variant, "numpy")
    if variant == "cuda" and _simulated():
        module = "numba"
    return importlib.util.find_spec(module) is not None


def _simulated() -> bool:
    # As Numba reads it.
    try:
        return int(os.environ.get("NUMBA_ENABLE_CUDASIM", 0)) != 0
    except ValueError:
        return False


def _require(rank: int, variant: str, gpus: list[str]) -> None:
    if not _installed(variant):
        install = "pip install -e '.[jobs]'" if variant == "numba" else _INSTALL
        raise Stop(f"--variant {variant}: its library is missing on rank {rank}; {install}")
    if variant in GPU_VARIANTS and not gpus:
        raise Stop(
            f"--variant {variant}: rank {rank} sees no NVIDIA GPU; ask for one (in Slurm "
            "--gpus-per-task=1) or take --variant numba"
        )


def _select_gpu(variant: str, number: int) -> None:
    try:
        if variant == "cuda":
            from numba import cuda

            cuda.select_device(number)
        else:
            import cupy

            cupy.cuda.Device(number).use()
    # What both libraries raise where they do not fit the driver.
    except (ImportError, RuntimeError) as error:
        raise Stop(f"--variant {variant}: its library fails: {error}; {_INSTALL}") from None
