"""Check a partition before a long run: placement, MPI, GPUs, memory, messages, files, imports.

    mpirun -n 4 python jobs/preflight.py
    mpirun -n 4 python jobs/preflight.py --json | jq '.checks[] | select(.verdict != "OK")'
    sbatch -N2 --ntasks-per-node=4 slurm/job.sh jobs/preflight.py --output $SCRATCH/preflight.h5

Each line says OK, warning or wrong, with what to do about it; the exit status is 1 if anything is
wrong. Start it as the long run is going to be started: the same ranks, threads and nodes.

Communication: the ranks of a node read and copy memory at once; the first and the last rank of each
    node, then the first ranks of neighbouring nodes, send messages to and fro; rank 0 collects the
    figures, and writes a file.
Check: what was copied, sent and read back is compared with what it was; `error` is how many bytes
    differ, and `bound` 0.
"""

# First: from here on a rank that fails takes the others with it.
import rankwise.ranks.guard  # noqa: F401  # isort: skip

import argparse
import dataclasses
import json
import os
import shutil

import numpy as np

from rankwise.disk.record import Result
from rankwise.node import slurm
from rankwise.node.device import share_of_cores
from rankwise.node.load import busy_cores
from rankwise.preflight import device_buffers, measure
from rankwise.preflight.findings import Findings
from rankwise.ranks import start as program
from rankwise.ranks.agreement import Stop, sleep_until_all
from rankwise.ranks.mpi import mpi_library
from rankwise.run import run as runs

# A node or a connection with less than this part of the median is out of step with the others.
OUT_OF_STEP = 0.8
# One way through shared memory takes about 1 us, through a fast network 1 to 3 us, through Ethernet
# and TCP 20 us and more; 10 Gbit/s are 1.25 GB/s.
SLOW_LATENCY, SLOW_BANDWIDTH = 20e-6, 2.0
# More than an idle system takes.
BUSY_CORES, BUSY_SHARE = 0.5, 0.1
# GB/s, seconds and bytes from which on people complain of a file system.
SLOW_WRITE, SLOW_IMPORT, LITTLE_SPACE = 0.05, 10.0, 2**30


def arguments():
    return argparse.ArgumentParser(
        prog="preflight.py",
        description=__doc__.partition("Communication")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def begin(comm, argv):
    """Begin the run; what keeps it from beginning is a finding, too."""
    try:
        return runs.begin(comm, "preflight", arguments(), argv, refuse=False)
    except Stop as stop:
        if comm.rank == 0 and str(stop):
            findings = Findings("--json" not in argv)
            findings.add("start", "", str(stop), verdict="wrong")
            if not findings.tell:
                print(json.dumps({"job": "preflight", "checks": findings.checks, "record": None}))
        raise


def see_launch(comm, run, findings):
    """Show where the ranks are, and what is wrong with it; return the hosts of the nodes."""
    from mpi4py import MPI

    host, cores = MPI.Get_processor_name(), slurm.ranges(run.device.cores)
    row = f"{comm.rank:>6}  {host:<12} {cores:<12} {run.device.threads:>7}  {run.device.name}"
    places = comm.gather(row) or []
    for line in ("  rank  host         cores        threads  device", *places):
        findings.show(line)
    for error in run.errors:
        findings.add("launch", "", error, verdict="wrong")
    for warning in run.warnings:
        findings.add("launch", "", warning)
    if not run.errors and not run.warnings:
        findings.add("launch", "a core for each thread; the same code and libraries on all ranks")
    return measure.of_nodes(comm, run.device.node, host)


def see_load(comm, findings):
    """Say how busy the nodes are with something else."""
    # Asleep, since ranks that wait in MPI keep cores busy.
    sleep_until_all(comm)
    busy, all_cores = comm.allreduce((busy_cores(), os.cpu_count()), max)
    text = f"{busy:.2g} of {all_cores} cores are busy with something else, on the busiest node"
    problem = "figures are too low; ask for whole nodes (--exclusive)"
    other = busy > max(BUSY_CORES, BUSY_SHARE * all_cores)
    findings.add("load", text, problem if other else None)


def try_mpi(comm, run, findings):
    """Say which MPI this is, and whether it takes addresses in the memory of GPUs."""
    from mpi4py import MPI

    levels = ("SINGLE", "FUNNELED", "SERIALIZED", "MULTIPLE")
    level = {getattr(MPI, f"THREAD_{name}"): name for name in levels}[MPI.Query_thread()]
    findings.add("MPI", f"{mpi_library()}, MPI_THREAD_{level}")
    if run.device.variant not in ("cuda", "cupy"):
        findings.add("GPU", "none is used")
        return
    works = device_buffers.work(run.device.variant) if run.device.node.rank == 0 else True
    works = comm.allreduce(works, min)
    findings.add("GPU", f"{len(run.device.gpus)} in sight of rank 0")
    text = f"--device-buffers {'works' if works else 'fails'}"
    problem = "data pass through host memory; load an MPI built for GPUs if the site has one"
    findings.add("GPU", text, None if works else problem)


def out_of_step(values, names):
    """Say which of the values [GB/s] stays behind the others."""
    worst = int(np.argmin(values))
    if values[worst] >= OUT_OF_STEP * np.median(values):
        return []
    behind = f"{names[worst]} has {values[worst]:.3g} GB/s, the fastest {np.max(values):.3g}"
    return [f"{behind}; if it does so again, report it, or leave it out (sbatch --exclude)"]


def measure_memory(comm, run, hosts, findings):
    """Return GB/s by node of reading and of copying, the bytes read, and those copied wrong."""
    memory, read, copied = measure.Memory(run.device.node, run.device.threads), 0.0, 0.0
    for repeat in run.clock.repeats():
        if repeat >= 0:
            with run.clock.phase("kernel"):
                read = max(read, memory.read())
            copied = max(copied, memory.copy())
    figures = np.array(measure.of_nodes(comm, run.device.node, (read, copied))).reshape(-1, 2).T
    cached = comm.allreduce(memory.cached, max)
    if comm.rank == 0:
        read, copied = figures.min(axis=1)
        problems = out_of_step(figures[0], hosts)
        if cached:
            problems.append("too high, since arrays that leave the caches need more memory (--mem)")
        text = f"all ranks of a node read {read:.3g} GB/s and copy {copied:.3g} GB/s"
        findings.add("memory", text, *problems)
    octets = comm.allreduce(memory.octets) * measure.SAMPLES
    return *figures, octets, comm.allreduce(memory.wrong())


def judge_messages(connections, where, findings):
    """Say how fast messages are; return seconds, GB/s, and how many bytes arrived wrong."""
    latency = np.array([each.latency for each in connections])
    bandwidth = np.array([each.bandwidth for each in connections])
    if connections:
        problems = out_of_step(bandwidth, [each.hosts for each in connections])
        if latency.max() > SLOW_LATENCY or bandwidth.min() < SLOW_BANDWIDTH:
            problems.append(
                "slow; do ranks share a core? does this MPI know the network (another module; "
                "UCX_TLS, FI_PROVIDER)?"
            )
        text = f"{where}: {1e6 * latency.max():.3g} us, {bandwidth.min():.3g} GB/s"
        findings.add("messages", text, *problems)
    return latency, bandwidth, sum(each.wrong for each in connections)


def try_files(folder, findings):
    """Return GB/s of writing HDF5, the seconds of a rename, and how many bytes were read wrong."""
    try:
        speed, rename, locks, wrong = measure.file_system(folder)
    except OSError as error:
        problem = f"{error.strerror or error}; choose another place with --output"
        findings.add("files", f"{folder}/", problem, verdict="wrong")
        return None, None, 0
    free, problems = shutil.disk_usage(folder).free, []
    if speed < SLOW_WRITE:
        problems.append("slow; write to the parallel file system of the site, with --output")
    if free < LITTLE_SPACE:
        problems.append("nearly full")
    if not locks:
        problems.append("no file locks; export HDF5_USE_FILE_LOCKING=FALSE")
    text = f"HDF5 written at {speed:.3g} GB/s, renamed in {1e3 * rename:.2g} ms"
    findings.add("files", f"{folder}/: {text}, {free / 1e9:.3g} GB free", *problems)
    return speed, rename, wrong


def finish(comm, run, results, check, octets, hosts, findings):
    """Write the record, print the line for other tools, and end as the checks ended."""
    run.warnings[:] = findings.of("wrong") + findings.of("warning")
    try:
        facts, path = runs.keep(comm, run, results, check, octets, octets)
        findings.show(f"  record   {path}")
    except Stop as stop:
        facts, path = {"job": run.job}, None
        findings.add("record", "", str(stop), verdict="wrong")
    if comm.rank == 0 and run.args.json:
        facts["results"] = {name: result.values.tolist() for name, result in results.items()}
        more = {"hosts": hosts, "checks": findings.checks, "record": path and str(path)}
        print(json.dumps(facts | more), flush=True)
    findings.end(comm)


def main(comm, argv):
    run = begin(comm, argv)
    # Memory is measured with all cores, whatever the variant would use.
    threads = run.args.threads or share_of_cores(run.device.node, run.device.cores)
    run = dataclasses.replace(run, device=dataclasses.replace(run.device, threads=threads))
    node, findings = run.device.node, Findings(comm.rank == 0 and not run.args.json)
    hosts = see_launch(comm, run, findings)
    see_load(comm, findings)
    try_mpi(comm, run, findings)
    read, copied, octets, miscopied = measure_memory(comm, run, hosts, findings)
    inside = judge_messages(measure.messages_within(comm, node), "in a node", findings)
    between = judge_messages(measure.messages_between(comm, node), "between nodes", findings)
    imports = comm.allreduce(run.clock.total("import"), max)
    problem = "slow; keep the environment on a local disk, or in a container image"
    text = f"{imports:.3g} s, the slowest rank"
    findings.add("imports", text, problem if imports > SLOW_IMPORT else None)
    results, check = {}, {}
    if comm.rank == 0:
        speed, rename, misread = try_files(run.path.parent, findings)
        wrong = miscopied + inside[2] + between[2] + misread
        check = {"error": float(wrong), "bound": 0.0}
        problem = f"{wrong} bytes arrived otherwise than they went; report it to the site"
        text = "copied, sent, read back"
        findings.add("data", text, problem if wrong else None, verdict="wrong")
        results = {
            "read_bandwidth": Result(read, "GB/s", "of each node's memory, all ranks at once"),
            "copy_bandwidth": Result(copied, "GB/s", "the same, bytes read and written"),
            "latency_within": Result(inside[0], "s", "one way in each node, 8 bytes"),
            "bandwidth_within": Result(inside[1], "GB/s", "one way in each node, 16 MiB"),
            "latency_between": Result(between[0], "s", "one way from each node to the next"),
            "bandwidth_between": Result(between[1], "GB/s", "one way from each to the next"),
            "import_seconds": Result(np.float64(imports), "s", "of the slowest rank"),
        }
        if speed is not None:
            results |= {
                "write_bandwidth": Result(np.float64(speed), "GB/s", "of an HDF5 file of 64 MiB"),
                "rename_seconds": Result(np.float64(rename), "s", "of giving it another name"),
            }
    finish(comm, run, results, check, octets, hosts, findings)


if __name__ == "__main__":
    program.launch(main)
