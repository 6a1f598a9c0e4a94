"""Heat equation on a plate whose edges are kept at 0: du/dt = alpha (d2u/dx2 + d2u/dy2).

    mpirun -n 4 python jobs/heat.py
    mpirun -n 4 python jobs/heat.py --n 4096 --steps 2000 --snapshot-every 500
    mpirun -n 4 python jobs/heat.py --n 4096 --steps 20000 --checkpoint c.h5
    mpirun -n 4 python jobs/heat.py --input start.h5:/temperature --steps 1000

Communication: rank 0 makes or reads the initial state and sends each rank its rows; in each step
    ranks exchange their outermost rows with those before and after them, and meanwhile update the
    points that need no halo; the rows gather to rank 0 for each snapshot and checkpoint and at the
    end.
Check: each step multiplies a product of sines by a known factor. The built-in state is one; any
    other is their sum, which a sine transform finds. All points of the last state are compared with
    that; they may differ by rounding errors, see `kernels.heat.error_bound` and `transform_bound`.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import Run, Stop, add_input, add_loop, count, launch, positive

import numpy as np

from kernels import heat
from kernels.heat.check import LARGEST, compare


def options(parser):
    made = add_input(parser, "the initial state, float64, 2-D")
    meaning = "points of a side, without the edges (default: 1024)"
    made.add_argument("--n", type=side, default=1024, help=meaning)
    add = parser.add_argument
    add("--rows", type=side, metavar="N", help="rows of points (default: as many as --n)")
    add("--alpha", type=positive, default=1e-4, help="diffusivity [m2/s] (default: 1e-4)")
    add("--dx", type=positive, help="distance of points [m] (default: a plate 1 m wide)")
    add("--dt", type=positive, help="time step [s] (default: 0.8 of the largest stable one)")
    add_loop(parser, 500, "time steps", snapshots=True)


def side(text):
    return count(text, 1, 10**7)


def grow(args, ranks):
    """Turn the size of one rank into that of all: the work is rows x columns x steps."""
    args.rows = (args.rows or args.n) * ranks


def advance(run, plate, u, new, step):
    """Do one time step from `u` to `new`, the points that need no halo while it is on its way."""
    plate.start_exchange(u)
    with run.phase("kernel"):
        if len(u) > 4:
            step(u[1:-1], new[1:-1])
    plate.finish_exchange(u)
    with run.phase("kernel"):
        if len(u) > 2:
            step(u[:3], new[:3])
        if len(u) > 3:
            step(u[-3:], new[-3:])


def solve(run, plate, loop, begin, step):
    """Scatter a state, do the steps, and return the last state on rank 0."""

    def state():
        return temperature(plate.gather(u))

    u, new = plate.scatter(begin)
    for _ in loop.steps(state):
        advance(run, plate, u, new, step)
        u, new = new, u
    return plate.gather(u)


def temperature(values):
    return {"temperature": (values, "K", "at the points, by row and column", ("y", "x"))}


def answer(run, source, final, r):
    """Check the last state, and return what the record holds. On rank 0."""
    try:
        found = compare(source, source.made, final, r, run.args.steps)
    except (MemoryError, ImportError, Stop) as error:
        # The record is written all the same, marked as unchecked.
        run.warn(f"the last state is not checked: {str(error) or 'too little memory'}")
    else:
        for each in found.checks:
            run.check(*each)
        for text in found.remarks:
            run.warn(text)
    return temperature(final) | {
        "hottest": (final.max(), "K", "largest of the temperatures"),
        "time": (run.args.steps * run.args.dt, "s", "of the last state"),
        "y": (run.args.dx * np.arange(1, 1 + final.shape[0]), "m", "of the rows, from the edge"),
        "x": (run.args.dx * np.arange(1, 1 + final.shape[1]), "m", "of the columns, from the edge"),
    }


def main(comm, argv):
    run = Run(comm, argv, __file__, __doc__, options, kernel=heat, grow=grow)
    args = run.args
    shape = args.rows or args.n, args.n
    made = heat.initial(*shape)
    source = run.source(made, shape, largest=LARGEST, least=1, sizes=("rows",))
    args.rows, args.n = ny, nx = source.shape
    args.dx = args.dx or 1 / (nx + 1)
    args.dt = args.dt or 0.8 * heat.longest_step(args.alpha, args.dx)
    r = run.agree(heat.ratio, args.alpha, args.dt, args.dx, mistake=ValueError)
    depends_on = ("rows", "n", "alpha", "dx", "dt")
    loop = run.loop({name: vars(args)[name] for name in depends_on}, source.nbytes, source)
    plate, step = run.halo_rows(source), run.kernel("step", r=r)
    run.compile(step, np.zeros((3, 3)), np.zeros((3, 3)))
    with loop:
        begin = loop.resume("temperature", source)
        for _ in run.repeats():
            final = None  # else rank 0 would hold this state while it gathers the next
            final = solve(run, plate, loop, begin, step)
        with run.phase("check"):
            results = run.on_root(answer, run, source, final, r)
        points = ny * nx * (loop.done - loop.first)
        # A step reads and writes each point once, and has five additions and two multiplications.
        run.finish(results, work=points, kernel_bytes=16 * points, kernel_flops=7 * points)


if __name__ == "__main__":
    launch(main)
