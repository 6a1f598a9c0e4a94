"""Heat equation on a plate whose edges are kept at 0: du/dt = alpha (d2u/dx2 + d2u/dy2).

    mpirun -n 4 python jobs/heat.py
    mpirun -n 4 python jobs/heat.py --n 4096 --steps 2000 --snapshot-every 500
    mpirun -n 4 python jobs/heat.py --n 4096 --steps 20000 --checkpoint c.h5
    mpirun -n 4 python jobs/heat.py --input start.h5:/temperature --steps 1000

Communication: rank 0 makes or reads the initial state and sends each rank its rows; in each step
    ranks exchange their outermost rows with those before and after them, and meanwhile update the
    points that need no halo; the rows gather to rank 0 for each snapshot and checkpoint and at the
    end.
Check: the built-in state is a product of sines, which each step multiplies by a known factor; of a
    state from a file, nine low sine amplitudes decay so. Rounding explains what is left, see
    `kernels.heat.error_bound` and `kernels.heat.amplitude_bound`.
"""

# First: from here on a rank that fails takes the others with it.
import rankwise.ranks.guard  # noqa: F401  # isort: skip

import argparse
import functools

import numpy as np

import kernels
from kernels import heat
from kernels.heat.check import LARGEST, amplitude_error, decay_error
from rankwise.data.halo import Rows
from rankwise.disk import dataset
from rankwise.disk.dataset import Dataset
from rankwise.disk.record import Result
from rankwise.node import compilation
from rankwise.ranks import start as program
from rankwise.ranks.agreement import Stop, agreement
from rankwise.ranks.progress import Progress
from rankwise.run import checkpoint as checkpoints
from rankwise.run import options
from rankwise.run import run as runs
from rankwise.run.options import positive
from rankwise.run.snapshots import Snapshots

# What the state after a number of steps depends on.
PROBLEM = ("rows", "n", "alpha", "dx", "dt")
# Their numbers are those of no snapshot.
WARM_UP_STEPS = range(-1, 1)


def arguments():
    parser = argparse.ArgumentParser(
        prog="heat.py",
        description=__doc__.partition("Communication")[0],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group()
    meaning = "points of a side, without the edges (default: 1024)"
    source.add_argument("--n", type=side, default=1024, help=meaning)
    dataset.add_options(parser, source, "the initial state, float64, 2-D")
    add("--rows", type=side, metavar="N", help="rows of points (default: as many as --n)")
    add("--steps", type=steps, default=500, help="time steps (default: 500)")
    add("--alpha", type=positive, default=1e-4, help="diffusivity [m2/s] (default: 1e-4)")
    add("--dx", type=positive, help="distance of points [m] (default: a plate 1 m wide)")
    add("--dt", type=positive, help="time step [s] (default: 0.8 of the largest stable one)")
    meaning = "write the state to a file of its own after every K steps"
    add("--snapshot-every", type=steps, metavar="K", help=meaning)
    checkpoints.add_options(parser)
    return parser


def side(text):
    return options.count(text, 1, 10**7)


def steps(text):
    return options.count(text, 1)


def grow(args, ranks):
    """Turn the size of one rank into that of all: the work is rows x columns x steps."""
    if args.input is not None:
        raise Stop("--weak lets the rows grow with the ranks; the size of an --input is fixed")
    args.rows = (args.rows or args.n) * ranks


def open_state(comm, args):
    """Return what fills rows with the initial state, a digest of it, how many rows and columns.

    The first two on rank 0; a digest where checkpoints are to belong to the content of an input.
    """
    fill, digest, shape = None, None, (args.rows or args.n, args.n)
    with agreement(comm):
        if args.input is not None and args.rows:
            raise Stop("--rows is for the built-in state; the size of an --input is fixed")
        if comm.rank == 0 and args.input is not None:
            data = Dataset(args.input, 2, (np.float64,), LARGEST, args.allow_external)
            fill, shape = data.read, data.shape
            if 0 in shape:
                raise Stop(f"{args.input} has the shape {shape}: there is no point in it")
            digest = data.sha256() if args.checkpoint else None
        elif comm.rank == 0:
            fill = heat.initial(*shape)
    return fill, digest, *comm.bcast(shape)


def advance(rows, u, out, step):
    """Do one time step from `u` to `out`, the points that need no halo while it is on its way."""
    rows.start_exchange(u)
    with rows.clock.phase("kernel"):
        if len(u) > 4:
            step(u[1:-1], out[1:-1])
    rows.finish_exchange(u)
    with rows.clock.phase("kernel"):
        if len(u) > 2:
            step(u[:3], out[:3])
        if len(u) > 3:
            step(u[-3:], out[-3:])


def solve(rows, fill, out, step, numbers, snapshots, checkpoint):
    """Scatter a state, do the steps of these numbers, gather; return the last state."""
    u = rows.scatter(fill)
    for number in numbers:
        advance(rows, u, out, step)
        u, out = out, u
        if number in snapshots.steps:
            snapshots.write(number, temperature(rows.gather(u)))
        if checkpoint.due(number):
            checkpoint.write(number, temperature(rows.gather(u)), snapshots.table())
    return temperature(rows.gather(u))


def temperature(values):
    return {"temperature": Result(values, "K", "at the points, by row and column")}


def check(fill, final, r, run):
    """Return the distance of the last state from what is known of it, and its bound."""
    if run.args.input is not None:
        return runs.checked(*amplitude_error(fill, final, r, run.args.steps))
    error, bound = decay_error(final, r, run.args.steps)
    if np.abs(final).max() < 1000 * bound:
        run.warn("little heat is left, so the check says little: take fewer --steps or more points")
    return runs.checked(error, bound)


def main(comm, argv):
    run = runs.begin(comm, "heat", arguments(), argv, grow)
    args, device, checked = run.args, run.device, {}
    with run.clock.phase("import"), agreement(comm, NotImplementedError):
        kernel = kernels.load("heat", device.variant)
    fill, digest, ny, nx = open_state(comm, args)
    args.rows, args.n, args.dx = ny, nx, args.dx or 1 / (nx + 1)
    args.dt = args.dt or 0.8 * heat.longest_step(args.alpha, args.dx)
    with agreement(comm, ValueError):
        r = heat.ratio(args.alpha, args.dt, args.dx)
    step = functools.partial(kernel.step, r=r)
    problem = {name: getattr(args, name) for name in PROBLEM} | {"sha256 of the input": digest}
    checkpoint = checkpoints.Checkpoint(comm, run, problem, args.steps, 8 * ny * nx)
    snapshots = Snapshots(comm, run, args.snapshot_every, args.steps, 8 * ny * nx, checkpoint)
    begin = checkpoint.fill("temperature") or fill
    rows = Rows(comm, run, ny, nx)
    out, small = rows.zeros(), [device.to_device(np.zeros((3, 3))) for _ in range(2)]
    with run.clock.phase("compile"):
        compilation.warm_up(device.node, "heat", lambda: step(*small))
    progress = Progress(args.steps * args.repeats, "step", comm.rank == 0, checkpoint.step)
    with checkpoint.answering_signals():
        with progress:
            for repeat in run.clock.repeats():
                numbers = WARM_UP_STEPS
                if repeat >= 0:
                    numbers = progress.over(range(checkpoint.step + 1, args.steps + 1))
                # Else rank 0 would hold this state while it gathers the next.
                results = None
                results = solve(rows, begin, out, step, numbers, snapshots, checkpoint)
        with agreement(comm):
            if comm.rank == 0:
                final = results["temperature"].values
                checked = check(fill, final, r, run)
                results["hottest"] = Result(final.max(), "K", "largest of the temperatures")
                results["time"] = Result(np.float64(args.steps * args.dt), "s", "of the last state")
        points = ny * nx * (args.steps - checkpoint.step)
        # A step reads and writes each point once.
        runs.finish(comm, run, results, checked, points, 16 * points, snapshots.table())
        checkpoint.remove()


if __name__ == "__main__":
    program.launch(main)
