"""The checks of a partition, one after the other: placement, MPI, GPUs, memory, messages, files."""

import argparse
import dataclasses
import json
import math
import os
import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rankwise.node import groups
from rankwise.node.device import default_threads
from rankwise.node.load import busy_cores
from rankwise.node.variants import GPU_VARIANTS
from rankwise.preflight import device_buffers, measure
from rankwise.preflight.findings import Findings
from rankwise.ranks.agreement import Stop, sleep_until_all
from rankwise.ranks.mpi import mpi_library
from rankwise.ranks.words import counted, ranges, short
from rankwise.run.run import Run

if TYPE_CHECKING:
    from mpi4py import MPI

# A node or a connection with less than this part of the median is out of step with the others.
OUT_OF_STEP = 0.8
# One way through shared memory takes about 1 us, through a fast network 1 to 3 us, through Ethernet
# and TCP 20 us and more; 10 Gbit/s are 1.25 GB/s.
SLOW_LATENCY, SLOW_BANDWIDTH = 20e-6, 2.0
# More than an idle system takes.
BUSY_CORES, BUSY_SHARE = 0.5, 0.1
# GB/s, seconds and bytes from which on people complain of a file system.
SLOW_WRITE, SLOW_IMPORT, LITTLE_SPACE = 0.05, 10.0, 2**30


def _no_options(parser: argparse.ArgumentParser) -> None:
    """Add none: those that all jobs have are enough."""


class Preflight:
    """The checks of one run, each a method; all are collective.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    argv : list of str
        Command line without the program's name; significant on rank 0.
    file : str
        The program, ``__file__``.
    doc : str, optional
        Its docstring, the text of ``--help``; ``python -OO`` leaves none.

    Raises
    ------
    Stop
        The run cannot begin; which is a finding, too.
    """

    def __init__(self, comm: "MPI.Comm", argv: list[str], file: str, doc: str | None) -> None:
        try:
            run = Run(comm, argv, file, doc, _no_options, refuse=False)
        except Stop as stop:
            if comm.rank == 0 and str(stop):
                findings = Findings("--json" not in argv)
                findings.add("start", "", str(stop), verdict="wrong")
                if not findings.tell:
                    facts = {"job": "preflight", "checks": findings.checks, "record": None}
                    print(json.dumps(facts))
            raise
        # Memory is measured with all cores, whatever the variant would use.
        threads = run.args.threads or default_threads(comm, run.device.cores)
        run.device = dataclasses.replace(run.device, threads=threads)
        self.run, self.comm, self.node = run, comm, run.device.node
        self.findings = Findings(comm.rank == 0 and not run.args.json)
        self.hosts: list[str] = []
        # Bytes that arrived otherwise than they went, and those that were read.
        self.wrong, self.octets = 0, 0
        self.results: dict[str, tuple[Any, str, str]] = {}

    def look_at_launch(self) -> None:
        """Show where the ranks are, and what is wrong with it."""
        from mpi4py import MPI

        run, findings = self.run, self.findings
        host, cores = MPI.Get_processor_name(), ranges(run.device.cores)
        row = f"{run.comm.rank:>6}  {host:<12} {cores:<12} {run.device.threads:>7}  "
        places = run.comm.gather(row + run.device.name) or []
        for line in ("  rank  host         cores        threads  device", *places):
            findings.show(line)
        for error in run.errors:
            findings.add("launch", "", error, verdict="wrong")
        warnings = [*run.warnings, *self._quotas(host)]
        for warning in warnings:
            findings.add("launch", "", warning)
        if not run.errors and not warnings:
            text = "a core for each thread; the same code and libraries on all ranks"
            findings.add("launch", text)
        self.hosts = measure.of_nodes(self.comm, self.node, host)

    def _quotas(self, host: str) -> list[str]:
        """Say that a node has less time than cores; known on rank 0. Collective."""
        quota = min(groups.cpu_quotas().values(), default=math.inf)
        worst, all_cores, host = min(self.comm.allgather((quota, os.cpu_count() or 1, host)))
        if worst >= all_cores:
            return []
        return [
            f"{host} has {counted(all_cores, 'core')}, and the time of {worst:.3g} (the CPU quota "
            "of a container or job): more threads stand still in between; ask for more"
        ]

    def measure_load(self) -> None:
        """Say how busy the nodes are with something else."""
        # Asleep, since ranks that wait in MPI keep cores busy.
        sleep_until_all(self.comm)
        busy, all_cores = max(self.comm.allgather((busy_cores(), os.cpu_count() or 1)))
        text = f"{busy:.2g} of {all_cores} cores are busy with something else, on the busiest node"
        problem = "figures are too low; ask for whole nodes (--exclusive)"
        other = busy > max(BUSY_CORES, BUSY_SHARE * all_cores)
        self.findings.add("load", text, problem if other else None)

    def try_mpi(self) -> None:
        """Say which MPI this is, and whether it takes addresses in the memory of GPUs."""
        from mpi4py import MPI

        device = self.run.device
        levels = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")
        level = {getattr(MPI, f"THREAD_{name}"): name for name in levels}[MPI.Query_thread()]
        self.findings.add("MPI", f"{mpi_library()}, MPI_THREAD_{level}")
        if device.variant not in GPU_VARIANTS:
            self.findings.add("GPU", "none is used")
            return
        works = device_buffers.work(device.variant) if self.node.rank == 0 else True
        works = min(self.comm.allgather(works))
        self.findings.add("GPU", f"{len(device.gpus)} in sight of rank 0")
        text = f"--device-buffers {'works' if works else 'fails'}"
        problem = "data pass through host memory; load an MPI built for GPUs if the site has one"
        self.findings.add("GPU", text, None if works else problem)

    def measure_memory(self) -> None:
        """Measure how fast the ranks of each node read and copy memory, all at once."""
        run, comm = self.run, self.comm
        # Outside of the repeats no time is kept: that it works is for the watchdog.
        with run.phase("kernel"):
            memory = measure.Memory(self.node, run.device.threads, run.device.cores, run.clock)
        read = copied = 0.0
        for repeat in run.repeats():
            if repeat >= 0:
                with run.phase("kernel"):
                    read = max(read, memory.read())
                copied = max(copied, memory.copy())
        figures = np.array(measure.of_nodes(comm, self.node, (read, copied))).reshape(-1, 2).T
        cached = max(comm.allgather(memory.cached))
        if comm.rank == 0:
            read, copied = figures.min(axis=1)
            problems = out_of_step(figures[0], self.hosts)
            if cached:
                problems.append(
                    "too high, since arrays that leave the caches need more memory (--mem)"
                )
            text = f"all ranks of a node read {short(read)} GB/s and copy {short(copied)} GB/s"
            self.findings.add("memory", text, *problems)
        self.octets = sum(comm.allgather(memory.octets)) * measure.SAMPLES
        self.wrong += sum(comm.allgather(memory.wrong()))
        self.results |= {
            "read_bandwidth": (figures[0], "GB/s", "of each node's memory, all ranks at once"),
            "copy_bandwidth": (figures[1], "GB/s", "the same, bytes read and written"),
        }

    def measure_messages(self) -> None:
        """Send messages inside each node and between neighbouring ones."""
        with self.run.phase("exchange"):
            inside = measure.messages_within(self.comm, self.node)
        self._judge(inside, "in a node", "within", "in each node")
        with self.run.phase("exchange"):
            between = measure.messages_between(self.comm, self.node)
        self._judge(between, "between nodes", "between", "from each node to the next")

    def _judge(
        self, connections: Sequence[measure.Connection], where: str, name: str, way: str
    ) -> None:
        latency = np.array([each.latency for each in connections], float)
        bandwidth = np.array([each.bandwidth for each in connections], float)
        if connections:
            problems = out_of_step(bandwidth, [each.hosts for each in connections])
            if latency.max() > SLOW_LATENCY or bandwidth.min() < SLOW_BANDWIDTH:
                problems.append(
                    "slow; do ranks share a core? does this MPI know the network (another module; "
                    "UCX_TLS, FI_PROVIDER)?"
                )
            text = f"{where}: {short(1e6 * latency.max())} us, {short(bandwidth.min())} GB/s"
            self.findings.add("messages", text, *problems)
        self.wrong += sum(each.wrong for each in connections)
        self.results |= {
            f"latency_{name}": (latency, "s", f"one way {way}, 8 bytes"),
            f"bandwidth_{name}": (bandwidth, "GB/s", f"one way {way}, 16 MiB"),
        }

    def look_at_imports(self) -> None:
        """Say how long Python and its libraries took to load."""
        imports = max(self.comm.allgather(self.run.clock.total("import")))
        problem = "slow; keep the environment on a local disk, or in a container image"
        text = f"{short(imports)} s, the slowest rank"
        self.findings.add("imports", text, problem if imports > SLOW_IMPORT else None)
        self.results["import_seconds"] = (imports, "s", "of the slowest rank")

    def try_files(self) -> None:
        """Write HDF5 where the record is going to be, rename it and read it, on rank 0."""
        if self.comm.rank != 0:
            return
        folder, findings = self.run.path.parent, self.findings
        try:
            speed, rename, locks, wrong = measure.file_system(folder)
        except OSError as error:
            problem = f"{error.strerror or error}; choose another place with --output"
            findings.add("files", f"{folder}/", problem, verdict="wrong")
            return
        free, problems = shutil.disk_usage(folder).free, []
        if speed < SLOW_WRITE:
            problems.append("slow; write to the parallel file system of the site, with --output")
        if free < LITTLE_SPACE:
            problems.append("nearly full")
        if not locks:
            problems.append("no file locks; export HDF5_USE_FILE_LOCKING=FALSE")
        text = f"HDF5 written at {short(speed)} GB/s, renamed in {short(1e3 * rename)} ms"
        findings.add("files", f"{folder}/: {text}, {short(free / 1e9)} GB free", *problems)
        self.wrong += wrong
        self.results |= {
            "write_bandwidth": (speed, "GB/s", "of an HDF5 file of 64 MiB"),
            "rename_seconds": (rename, "s", "of giving it another name"),
        }

    def finish(self) -> None:
        """Write the record, print the line for other tools, and end as the checks ended.

        Raises
        ------
        Stop
            A check is wrong; status 1.
        """
        run, findings = self.run, self.findings
        problem = f"{self.wrong} bytes arrived otherwise than they went; report it to the site"
        text = "copied, sent, read back"
        findings.add("data", text, problem if self.wrong else None, verdict="wrong")
        # Kept though it failed: the figures are what the record is for.
        run.checks.append({"why": "exact", "error": float(self.wrong), "bound": 0.0})
        run.warnings[:] = findings.of("wrong") + findings.of("warning")
        figures = {"work": self.octets, "kernel_bytes": self.octets, "kernel_flops": 0}
        try:
            facts, path = run.keep(self.results, figures)
            findings.show(f"  record   {path}")
        except Stop as stop:
            facts, path = {"job": run.job}, None
            findings.add("record", "", str(stop), verdict="wrong")
        if self.comm.rank == 0 and run.args.json:
            facts["results"] = {
                name: np.asarray(value).tolist() for name, (value, _, _) in self.results.items()
            }
            more = {"hosts": self.hosts, "checks": findings.checks, "record": path and str(path)}
            print(json.dumps(facts | more), flush=True)
        findings.end(self.comm)


def out_of_step(values: np.ndarray, names: Sequence[str]) -> list[str]:
    """Say which of the values [GB/s] stays behind the others."""
    worst = int(np.argmin(values))
    if values[worst] >= OUT_OF_STEP * np.median(values):
        return []
    behind = f"{names[worst]} has {short(values[worst])} GB/s, the fastest {short(np.max(values))}"
    return [f"{behind}; if it does so again, report it, or leave it out (sbatch --exclude)"]
