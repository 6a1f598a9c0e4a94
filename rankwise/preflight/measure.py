"""What a machine delivers: memory, messages, files. Figures to set a program's own beside."""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.disk import files, hdf5
from rankwise.node import memory
from rankwise.ranks.agreement import sleep_until_all
from rankwise.ranks.clock import Clock

if TYPE_CHECKING:
    from mpi4py import MPI

# Of a measurement, the best of so many: what disturbs it only makes it slower.
SAMPLES = 5
# An array of a node is at least this large, and four times its caches, as STREAM asks ([1]_), so
# that none of it is still there when it is read again.
# .. [1] J. D. McCalpin, STREAM: Sustainable Memory Bandwidth in High Performance Computers,
#    https://www.cs.virginia.edu/stream/ref.html
_LEAST_BYTES = 2**28
_CACHES = 4
# Of the memory that is free, for both arrays together.
_SHARE_OF_MEMORY = 0.25
# Long enough for the bandwidth of any network.
_LONG_MESSAGE = 2**24
_ROUNDS = 1000
# Every so many bytes of a message change from round to round: some in each packet.
_CHANGED = 1024
_ROUND_TRIP_SECONDS = 0.3
_FILE_BYTES = 2**26


class Memory:
    """Two arrays of a rank, which all ranks of a node read and copy at once.

    Parameters
    ----------
    node : MPI.Comm
        The ranks of one node. Collective.
    threads : int
        Threads of this rank.
    cores : tuple of int
        Logical CPUs that they may run on.
    clock : Clock
        That of this rank: each sample is a move.
    """

    def __init__(
        self, node: "MPI.Comm", threads: int, cores: tuple[int, ...], clock: Clock
    ) -> None:
        wanted = max(_LEAST_BYTES, _CACHES * _cache_bytes())
        octets = min(wanted, int(_SHARE_OF_MEMORY * memory.available() / 2)) // node.size
        # The same on every rank, whatever each finds to be free.
        elements = min(node.allgather(octets)) // 8
        self.node, self.clock = node, clock
        # Too little memory for more: then the figures are those of caches.
        self.cached = 8 * elements * node.size < _CACHES * _cache_bytes()
        self.source, self.target = np.empty(elements), np.empty(elements)
        bounds = np.linspace(0, elements, threads + 1).astype(int)
        self.parts = [slice(*pair) for pair in pairwise(bounds)]
        # Each part has a thread of its own, which touches it first: that places its pages near by.
        # OpenMP may have bound the thread that starts them, and what it starts would stay there.
        self.threads = [
            ThreadPoolExecutor(1, initializer=os.sched_setaffinity, initargs=(0, cores))
            for _ in self.parts
        ]
        self._each(self._touch)

    def read(self) -> float:
        """Return how fast the ranks of the node read together [GB/s]. Collective over the node."""
        both = (self.source, self.target)
        return self._best(lambda part: [np.dot(x[part], x[part]) for x in both])

    def copy(self) -> float:
        """Return how fast they copy [GB/s]; read and written bytes count. Collective."""
        return self._best(lambda part: np.copyto(self.target[part], self.source[part]))

    @property
    def octets(self) -> int:
        """Bytes of this rank that one pass reads, or reads and writes."""
        return self.source.nbytes + self.target.nbytes

    def wrong(self) -> int:
        """Return how many bytes of this rank lie in elements that were copied wrong."""
        return self.target.itemsize * int(np.count_nonzero(self.target != self.source))

    def _touch(self, part: slice) -> None:
        # Each element another one, so that what is copied to a wrong place shows.
        self.source[part] = np.arange(part.start + 1, part.stop + 1)
        self.target[part] = 0.0

    def _each(self, work: Callable[[slice], object]) -> None:
        pairs = zip(self.threads, self.parts, strict=True)
        for done in [thread.submit(work, part) for thread, part in pairs]:
            done.result()

    def _best(self, work: Callable[[slice], object]) -> float:
        best = np.inf
        for _ in range(SAMPLES):
            self.clock.moves += 1
            self.node.Barrier()
            start = time.perf_counter()
            self._each(work)
            best = min(best, max(self.node.allgather(time.perf_counter() - start)))
        return sum(self.node.allgather(self.octets)) / best / 1e9


def _cache_bytes() -> int:
    """Return the size of all last-level caches of this machine."""
    found: dict[str, int] = {}
    for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index3"):
        try:
            size = (index / "size").read_text().strip()
            found[(index / "shared_cpu_list").read_text()] = 1024 * int(size.rstrip("K"))
        except (OSError, ValueError):
            continue
    return sum(found.values())


def of_nodes(comm: "MPI.Comm", node: "MPI.Comm", value: Any) -> list[Any]:
    """Collect the value of each node's first rank on rank 0; empty elsewhere. Collective."""
    pairs = comm.gather((node.rank == 0, value))
    return [value for first, value in pairs or [] if first]


@dataclass(frozen=True)
class Connection:
    """Messages to and fro between two ranks.

    Attributes
    ----------
    hosts : str
        Between which nodes, or in which.
    latency : float
        One way of 8 bytes, median [s].
    bandwidth : float
        One way of 16 MiB, best [GB/s].
    wrong : int
        Bytes that came back otherwise than they went.
    """

    hosts: str
    latency: float
    bandwidth: float
    wrong: int


def messages_within(comm: "MPI.Comm", node: "MPI.Comm") -> list[Connection]:
    """Send messages between the first and the last rank of each node. Collective over `comm`.

    Returns
    -------
    list of Connection
        On rank 0, of the nodes that have two ranks or more; empty elsewhere.
    """
    found = None
    if node.size > 1 and node.rank in (0, node.size - 1):
        found = _ping_pong(node, node.size - 1 - node.rank)
    sleep_until_all(comm)
    return [each for each in of_nodes(comm, node, found) if each is not None]


def messages_between(comm: "MPI.Comm", node: "MPI.Comm") -> list[Connection]:
    """Send messages between the first ranks of each two neighbouring nodes. Collective over `comm`.

    Half of the connections at a time, so that no rank has two.

    Returns
    -------
    list of Connection
        On rank 0; empty elsewhere.
    """
    from mpi4py import MPI

    firsts = comm.Split(0 if node.rank == 0 else MPI.UNDEFINED, comm.rank)
    found = []
    if firsts != MPI.COMM_NULL:
        for odd in (0, 1):
            partner = firsts.rank + (1 if firsts.rank % 2 == odd else -1)
            if 0 <= partner < firsts.size:
                found.append(_ping_pong(firsts, partner))
            firsts.Barrier()
    sleep_until_all(comm)
    every = of_nodes(comm, node, found)
    return [connection for each in every for connection in each if connection is not None]


def _ping_pong(comm: "MPI.Comm", partner: int) -> Connection | None:
    """Return the figures of one connection on its lower rank, None on the other."""
    from mpi4py import MPI

    short, wrong = _round_trips(comm, partner, 8)
    long, wrong_too = _round_trips(comm, partner, _LONG_MESSAGE)
    host = MPI.Get_processor_name()
    other = comm.sendrecv(host, partner, source=partner)
    if not short:
        return None
    return Connection(
        host if host == other else f"{host} - {other}",
        float(np.median(short)) / 2,
        _LONG_MESSAGE / (min(long) / 2) / 1e9,
        wrong + wrong_too,
    )


def _round_trips(comm: "MPI.Comm", partner: int, octets: int) -> tuple[list[float], int]:
    """Return the seconds of each round trip, the first left out, and the bytes that were wrong."""
    leads = comm.rank < partner
    message, back = np.arange(octets, dtype=np.uint8), np.zeros(octets, np.uint8)
    seconds: list[float] = []
    end = time.perf_counter() + _ROUND_TRIP_SECONDS
    while True:
        if leads:
            # The first byte tells whether another one comes; two are the least.
            more = len(seconds) < _ROUNDS and time.perf_counter() < end
            message[0] = more or len(seconds) < 2
            # In each round another one, so that one of a round before shows.
            message[1::_CHANGED] += 1
            start = time.perf_counter()
            comm.Send(message, partner)
            comm.Recv(back, partner)
            seconds.append(time.perf_counter() - start)
        else:
            comm.Recv(back, partner)
            comm.Send(back, partner)
        if not (message if leads else back)[0]:
            break
    return (seconds[1:], int(np.count_nonzero(back != message))) if leads else ([], 0)


def file_system(folder: Path) -> tuple[float, float, bool, int]:
    """Write an HDF5 file as jobs do, rename it, read it and remove it.

    Parameters
    ----------
    folder : Path
        Where.

    Returns
    -------
    bandwidth : float
        Of writing 64 MiB, with the copy in memory and until they are on the disk [GB/s].
    rename : float
        Of giving the file another name [s].
    locks : bool
        Whether files can be locked there, which HDF5 does by itself.
    wrong : int
        Bytes that were read otherwise than they were written.

    Raises
    ------
    OSError
        The file system refuses.
    """
    data = np.random.default_rng(0).integers(0, 256, _FILE_BYTES, np.uint8)
    stamp = f"{os.uname().nodename}-{os.getpid()}-{time.time_ns()}"
    paths = [folder / f".preflight-{stamp}-{name}.h5" for name in ("a", "b")]
    try:
        start = time.perf_counter()
        image = files.hdf5_image(lambda file: file.create_dataset("x", data=data))
        files.write(paths[0], image, force=False)
        written = time.perf_counter()
        os.replace(*paths)
        renamed = time.perf_counter()
        with hdf5.opened(paths[1]) as file:
            wrong = int(np.count_nonzero(file["x"][()] != data))
        return _FILE_BYTES / (written - start) / 1e9, renamed - written, _locks(paths[1]), wrong
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


def _locks(path: Path) -> bool:
    import fcntl

    with open(path, "rb+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True
