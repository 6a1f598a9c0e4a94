"""Set the engines of Python side by side: what each costs, and from which task size on it pays.

    python -m engines compare
    python -m engines compare --engines futures,joblib,rankwise --workers 2
    python -m engines compare --task-seconds 0.01 --data-mb 8       # a sentence for your case

Engines are measured one after the other, on one node, each in processes of its own that end with
it. All do the same works, and their results must have the same bits. Medians are shown, with the
least and the most. The record has all samples; the figure is beside it, under its name with .svg.
docs/engines.md says what the columns mean, and how to choose.

Communication: none of its own; the engines have theirs.
Check: the results of both works have the digest that they have without an engine.
"""

# First: from here on a rank that fails ends the others.
from rankwise.job import Run, Stop, positive

import argparse
import json
from dataclasses import asdict

import psutil

from engines import work
from engines.comparison import figure, words
from engines.comparison.measure import ENGINES, Case, measure, missing
from engines.comparison.plain import Plain

# How many cores an idle system keeps busy, at most.
IDLE_CORES = 0.2


def options(parser):
    add = parser.add_argument
    text = f"some of {', '.join(ENGINES)} (default: all that are installed)"
    add("--engines", type=names, metavar="A,B", default=list(ENGINES), help=text)
    text = "worker processes or threads of each (default: as many as there are cores)"
    add("--workers", type=work.count, metavar="N", default=work.cores(), help=text)
    text = "sizes of tasks [s], the largest first (default: from 0.25 on, each a quarter of the "
    text += "one before, until the efficiency is below 50 %%)"
    add("--sizes", type=sizes, metavar="S,S", help=text)
    text = "size of your tasks: say which engines keep 80 %% of the time of their workers"
    add("--task-seconds", type=positive, metavar="S", help=text)
    text = "data that each of your tasks gets sent [MB] (default: none)"
    add("--data-mb", type=positive, metavar="D", help=text)


def names(text):
    """Read the names of engines."""
    given = text.split(",")
    for name in given:
        if name not in ENGINES:
            raise argparse.ArgumentTypeError(f"no {name!r}: choose from {', '.join(ENGINES)}")
    return [name for name in ENGINES if name in given]


def sizes(text):
    """Read sizes of tasks."""
    given = [positive(part) for part in text.split(",")]
    if given != sorted(given, reverse=True) or given[0] > 1 or given[-1] < 1e-7:
        raise argparse.ArgumentTypeError(
            f"{text!r} are not sizes from 1 s to 1e-7 s, the largest first"
        )
    return given


def busy_cores():
    """Return how many cores are busy with something else, while nothing of this runs."""
    return psutil.cpu_percent(interval=0.5) / 100 * psutil.cpu_count()


def require(run):
    """Refuse what has no meaning here. On rank 0."""
    args = run.args
    if run.comm.size > 1:
        raise Stop("start it without mpirun: it starts the ranks of its engines by itself")
    if args.variant != "numpy" or args.threads or args.device_buffers:
        raise Stop("--variant, --threads and --device-buffers are for jobs with a kernel")
    if args.repeats != 1:
        raise Stop("--repeats has no meaning here: three samples of each figure are taken")
    if args.data_mb and not args.task_seconds:
        raise Stop("--data-mb goes with --task-seconds")
    if run.path.suffix != ".h5":
        raise Stop(f"--output {run.path} does not end in .h5; the figure beside it ends in .svg")
    if (args.data_mb or 0) * 1e6 * args.workers > psutil.virtual_memory().available / 4:
        raise Stop(f"--data-mb {args.data_mb:g} for each worker are more than memory has room for")
    if run.path.with_suffix(".svg").exists() and not args.force:
        raise Stop(f"{run.path.with_suffix('.svg')} exists; --force replaces it")


def choose(names):
    """Return the engines that are here, and why the others are not."""
    absent = {name: why for name in names if (why := missing(ENGINES[name]))}
    if len(absent) == len(names):
        raise Stop("; ".join(f"{name} is {why}" for name, why in absent.items()))
    return [ENGINES[name] for name in names if name not in absent], absent


def measure_all(run, engines, case):
    """Return what was found of each engine, and how many cores others kept busy, at most."""
    every, busy = {}, 0.0
    with Plain(run.args.workers) as plain:
        for number, engine in enumerate(engines, 1):
            busy = max(busy, busy_cores())
            run.tell(f"{engine.name} ({number} of {len(engines)}, at most {engine.limit:g} s)")
            every[engine.name] = measure(engine, run.args.workers, plain, run.args.sizes, case)
        busy = max(busy, busy_cores())
    return every, busy


def check(run, every):
    """Compare the digests of all engines with those of the works without one. On rank 0.

    Returns
    -------
    str
        What is to be said of them. The figures of all engines are kept, also of those whose results
        are others.
    list of str
        The engines whose results are others, or not there.
    """
    wanted = {}
    for name in ("rows", "sum"):
        function, tasks = work.tasks_of(name)
        wanted[name] = work.digest([function(task) for task in tasks])
    wrong = [name for name, found in every.items() if found.digests != wanted]
    why = "engines whose results are not those without an engine: exact"
    run.checks.append({"why": why, "error": float(len(wrong)), "bound": 0.0})
    digests = ", ".join(f"{name} {digest}" for name, digest in wanted.items())
    if wrong:
        return f"Results other than without an engine ({digests}): {', '.join(wrong)}", wrong
    return f"All engines have the same results, as without an engine: {digests}", wrong


def results(every):
    """Return all samples, for the record."""
    kept = {}
    for name, found in every.items():
        for what, unit, samples, text in (
            ("start_up", "s", found.start_ups, "from the start until every worker has done tasks"),
            ("empty_task", "us", found.empty, "of a task that does nothing"),
            ("sent_data", "s/GB", found.sent, "of tasks that only read the data sent to them"),
            ("imbalance", "1", found.imbalance, "busy seconds of the busiest worker over the mean"),
        ):
            kept[f"{name}_{what}"] = samples, unit, text
        axes = f"{name}_task_size", "sample"
        kept[axes[0]] = [point.size for point in found.points], "s", "of a task, by plain processes"
        text = "part of the time of the workers that is spent on tasks"
        if found.points:
            samples = [point.samples for point in found.points]
            kept[f"{name}_efficiency"] = samples, "1", text, axes
        kept[f"{name}_memory"] = found.memory, "B", "of all its processes"
    return kept


def show(run, engines, every, absent, case):
    """Print the tables and what is to be said of them."""
    lines = [*words.figures(engines, every), "", *words.faults(engines, every), ""]
    lines += [f"{name}: {why}" for name, why in absent.items()]
    lines += words.reasons(engines, every)
    if "threading" in every:
        lines.append(
            "threading: tasks in pure Python have no METG: they take turns (the interpreter lock), "
            "so that more threads do no more"
        )
    if case is not None:
        lines.append(words.for_case(every, case, run.args.workers))
    print("\n".join(lines))


def warn_if_busy(run, busy):
    """Warn of cores that were busy with something else, and not left free by the workers."""
    if busy > max(0, psutil.cpu_count() - run.args.workers) + IDLE_CORES:
        run.warn(
            f"{busy:.1f} of {psutil.cpu_count()} cores were busy with something else: these "
            "figures are of this moment; measure again on an idle machine"
        )


def require_same(said, wrong):
    """Stop if an engine has other results than the others, or none."""
    if wrong:
        raise Stop(said, status=1)


def main(comm, argv):
    run = Run(comm, ["--variant", "numpy", *argv], __file__, __doc__, options)
    args = run.args
    run.agree(require, run)
    engines, absent = run.agree(choose, args.engines)
    for name, why in absent.items():
        run.tell(f"{name}: {why}")
    case = Case(args.task_seconds, args.data_mb or 0.0) if args.task_seconds else None
    work.compile_kernels()
    for repeat in run.repeats():
        if repeat >= 0:
            every, busy = measure_all(run, engines, case)
    said, wrong = check(run, every)
    if not args.json:
        show(run, engines, every, absent, case)
        print(said)
    warn_if_busy(run, busy)
    figures = {"work": 0, "kernel_bytes": 0, "kernel_flops": 0}
    facts, path = run.keep(results(every), figures)
    picture = path.with_suffix(".svg")
    figure.save(figure.draw(every, args.workers), picture)
    if args.json:
        found = {name: asdict(each) for name, each in every.items()}
        files = {"figure": str(picture), "record": str(path)}
        more = {"engines": found, "absent": absent, "busy_cores": busy}
        print(json.dumps(facts | more | files))
    else:
        print(f"figure {picture}\nrecord {path}")
    run.agree(require_same, said, wrong)
