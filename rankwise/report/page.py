"""The report of a sweep: tables for terminal, proposal and spreadsheet, figures, and a page.

Use: ``rankwise report results/SWEEP``
"""

import re
import shlex
from itertools import chain
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from rankwise.analysis.series import Analysis, Fit, Point, Series
from rankwise.ranks.words import counted
from rankwise.report import doubts, drawing, figures, method, sentences, tables, usage
from rankwise.report.numbers import NOTHING, bound, chosen, figure, interval, number, percent
from rankwise.report.recommendation import recommendation, request
from rankwise.sweep.folder import PROCESS, SUPPLIED, Run, Sweep, write_text

# Of a folder with thousands of files; `sweep.json` has all of them.
_MOST_DIGESTS = 12


def write(analysis: Analysis, sweep: Sweep) -> list[Path]:
    """Write the report into the folder of its sweep; the same bytes every time.

    Parameters
    ----------
    analysis : Analysis
    sweep : Sweep
        That was analysed.

    Returns
    -------
    list of Path
        ``report.html``, ``scaling.md`` and ``scaling.csv``; the figures are in ``figures/``.
    """
    folder = sweep.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn = figures.draw(analysis)
    texts = {name: _alternative(analysis, name) for name in drawn}
    for name, each in drawn.items():
        for ending in ("svg", "pdf"):
            drawing.save(each, folder / f"{name}.{ending}", texts[name])
    elements = {name: (folder / f"{name}.svg").read_text("utf-8") for name in drawn}
    contents = {
        "report.html": page(analysis, sweep, elements),
        "scaling.md": tables.markdown(analysis, texts),
        "scaling.csv": tables.comma_separated(analysis),
    }
    paths = [sweep.folder / name for name in contents]
    for path, content in zip(paths, contents.values(), strict=True):
        write_text(path, content)
    return paths


def page(analysis: Analysis, sweep: Sweep, drawn: dict[str, str]) -> str:
    """Return the report as one HTML page that needs no other file.

    Parameters
    ----------
    analysis : Analysis
    sweep : Sweep
        That was analysed.
    drawn : dict of str to str
        SVG elements by the name of the figure, from `drawing.svg`.

    Returns
    -------
    str
    """
    strong = any(series.mode == "strong" for series in analysis.series)
    return render(
        "report.html.j2",
        title=tables.line(sentences.title(analysis)),
        machine=sentences.machine(analysis),
        limit=sentences.limit(analysis),
        disturbed=doubts.mostly_disturbed(analysis),
        warnings=doubts.warnings(analysis),
        missing=analysis.missing,
        method=Markup(" ").join(map(_sentence, method.sentences(analysis))),
        series=[_section(analysis, one, drawn) for one in analysis.series],
        failures=[(tables.failure(run), tables.clean(run.output_end)) for run in analysis.failures],
        weak=method.growth(sweep.plan["weak"], strong) if sweep.plan.get("weak") else "",
        facts=_facts(sweep),
        command=tables.line(sweep_command(sweep)),
        supplied=bool(sweep.plan.get("supplied")),
    )


def render(template: str, **content: Any) -> str:
    """Fill a template of this folder; what comes from outside is escaped."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    return environment.get_template(template).render(**content)


def _prose(text: str) -> Markup:
    """Return a sentence for HTML; names in backticks become code."""
    escaped = str(escape(bound(tables.line(text))))
    return Markup(re.sub(r"`(\w+)`", r"<code>\1</code>", escaped))


def _sentence(text: str) -> Markup:
    """Return a sentence of the method; a command stays as it is, for those who copy it."""
    return escape(tables.line(text)) if text.startswith(method.COMMAND) else _prose(text)


def _section(analysis: Analysis, series: Series, drawn: dict[str, str]) -> dict[str, Any]:
    """Return what the page shows of one kind of scaling."""
    names = [name for name in drawn if name.startswith(f"{series.mode}-")]
    kinds = sentences.kinds(analysis.plan)
    return {
        "mode": series.mode,
        "heading": tables.heading(series),
        "columns": tables.columns(analysis, series),
        "points": [(point.ranks, sentences.notes(point)) for point in series.points],
        "recommended": series.recommended,
        "recommendation": recommendation(analysis, series),
        "request": request(analysis, series),
        "billed": analysis.billing.whole_nodes and not {PROCESS, SUPPLIED} & {*series.sources},
        "queued": series.queued,
        "bottleneck": sentences.bottleneck(series),
        "fits": [
            (
                fit.law,
                sentences.fit(fit, series.whole_process, kinds),
                sentences.rank_list(fit.ranks) if fit.curve else "",
            )
            for fit in series.fits
        ],
        "usage": usage.table(series, analysis.runs),
        "usage_words": usage.explanation(series, analysis.runs),
        "parameters": [row for fit in series.fits for row in _parameters(fit)],
        "figures": [
            (Markup(drawn[name]), _caption(series, name, analysis.target)) for name in names
        ],
        "absent": _absent(series, names),
    }


def _parameters(fit: Fit) -> list[tuple[str, str, str, str]]:
    return [
        (fit.law, name, figure(value.value), interval(value, figure))
        for name, value in fit.parameters.items()
    ]


def _absent(series: Series, names: list[str]) -> str:
    """Say why a figure that a reader looks for is not there."""
    if series.baseline is None:
        return "No launch succeeded, so there is nothing to draw."
    words = []
    if f"{series.mode}-speedup" not in names:
        words.append("With one measured count there is no speedup or efficiency to draw.")
    if f"{series.mode}-phases" not in names and series.sources != (SUPPLIED,):
        words.append("Phases are not known: there is no record, and no --phase tells them.")
    return " ".join(words)


_READ_POINTS = (
    "Points are medians over launches with 95 % intervals (no bar where there are too few "
    "launches), grey dots single launches."
)


def _caption(series: Series, name: str, target: float) -> str:
    """Say what a figure shows and how it is read."""
    kind = name.partition("-")[2]
    if kind == "speedup":
        return _speedup_caption(series) + _marks(series)
    if kind == "efficiency":
        return (
            "Parallel efficiency: speedup over what it would ideally be. "
            f"{_READ_POINTS} Dotted: the target of {chosen(target)}, which the recommendation asks "
            f"for; where whole nodes are billed, of the efficiency as billed.{_marks(series)}"
        )
    if kind == "phases":
        return _phases_caption(series)
    if series.queued:
        return (
            "Load balance: busy seconds of each rank over the mean of all ranks, one dot per rank, "
            "from the least busy to the busiest. The number is that of the busiest rank: at 1.20, "
            "if each has cores of its own, a sixth of the time of all ranks is lost."
        )
    return (
        "Load balance: kernel seconds of each rank over the mean of all ranks, one dot per rank. "
        "The number is that of the slowest rank: at 1.20 the others wait for a sixth of the time."
    )


def _marks(series: Series) -> str:
    text = ""
    if any(point.oversubscribed for point in series.points):
        text += " Hollow: more threads than cores, so slower for a reason that is not the program."
    if any(point.failed for point in series.points):
        text += " Crosses: launches that failed, and how many of how many."
    return text


def _speedup_caption(series: Series) -> str:
    bound = ""
    if any(point.bound > 0 for point in series.points):
        bound = (
            " Dash and two dots: what memory would allow if only moving the kernel's data took "
            "time; the legend tells if that lies beyond the axes."
        )
    ideal = "twice the ranks, half the time"
    if series.mode == "weak":
        ideal = "twice the ranks, twice the work in the same time"
    return (
        f"Speedup. {_READ_POINTS} Dashed: the ideal, {ideal}. Both axes are in powers of two. "
        f"The further a point lies below the dashed line, the more of the machine is lost.{bound}"
    )


def _phases_caption(series: Series) -> str:
    ideal = "stay as high" if series.mode == "weak" else "halve whenever the ranks double"
    other = ""
    if any("other" in point.phases for point in series.points):
        python = ": Python of the program itself" if series.sources == ("record",) else ""
        other = f" `other` is what no phase covers{python}."
    return (
        f"Where the time goes. Left: seconds in each phase; ideally the bars {ideal}. Right: "
        "the same as shares; look for what widens. `wait` is time until other ranks are ready: "
        f"its cause is another phase, or uneven work.{other}"
    )


def _alternative(analysis: Analysis, name: str) -> str:
    """Say in words what a figure shows, for those who do not see it."""
    mode, _, kind = name.partition("-")
    series = next(one for one in analysis.series if one.mode == mode)
    tell = {
        "speedup": _tell_speedup,
        "efficiency": lambda point: percent(point.efficiency.value, analysis.target),
        "phases": _tell_phases,
    }
    values = "; ".join(
        f"{counted(point.ranks, 'rank')} {tell.get(kind, _tell_imbalance)(point)}"
        for point in series.points
    )
    return f"{mode.capitalize()} scaling, {kind}: {values}."


def _tell_speedup(point: Point) -> str:
    allowed = f" (memory allows {figure(point.bound)})" if point.bound > 0 else ""
    return figure(point.speedup.value) + allowed


def _tell_phases(point: Point) -> str:
    return f"{number(sum(point.phases.values()))} s" if point.phases else NOTHING


def _tell_imbalance(point: Point) -> str:
    return f"at most {max(point.imbalance):.2f}" if point.imbalance else NOTHING


def _facts(sweep: Sweep) -> list[tuple[str, str]]:
    """Return what the plan says of the circumstances, as far as it says it."""
    plan = sweep.plan
    versions = {**(plan.get("versions") or {}), **(plan.get("slurm") or {})}
    machine = plan.get("machine") or {}
    noted, mpi = plan.get("notes") or {}, plan.get("mpi") or {}
    facts = {
        "SHA-256 of the table": (plan.get("supplied") or {}).get("sha256"),
        **{f"Note: {key}": value for key, value in noted.items()},
        "Started": plan.get("started"),
        "Started in the folder": plan.get("cwd"),
        "Folder that each launch got a copy of": plan.get("case"),
        "Commit of the program": plan.get("git"),
        "Launcher": plan.get("launcher"),
        "Slurm's billing of the allocation": (plan.get("billing") or {}).get("billing"),
        "MPI": ", ".join(str(mpi[name]) for name in ("family", "library") if mpi.get(name)),
        "First line of its output": next(
            (run.facts["first_line"] for run in sweep.runs if "first_line" in run.facts), None
        ),
        "Kernel": machine.get("kernel"),
        "Versions and job": ", ".join(f"{name} {value}" for name, value in versions.items()),
        "One launch, as started": shlex.join(_longest(sweep.runs).argv) if sweep.runs else None,
    }
    facts |= _digests(plan)
    known = {tables.line(name): tables.line(str(value)) for name, value in facts.items() if value}
    return list(known.items())


def _digests(plan: dict[str, Any]) -> dict[str, str]:
    """Return what is known of the program, its libraries and inputs, by their names."""
    known = [(name, str(text)) for name, text in (plan.get("files") or {}).items()]
    return {
        f"SHA-256 of {name}" if text.startswith("sha256 ") else name: text.removeprefix("sha256 ")
        for name, text in known[:_MOST_DIGESTS]
    }


def _longest(runs: list[Run]) -> Run:
    return max(runs, key=lambda run: run.ranks)


def sweep_command(sweep: Sweep) -> str:
    """Return the command line that repeats a sweep, order of runs included, or an import."""
    plan = sweep.plan
    if plan.get("supplied"):
        return _import_command(plan)
    modes = plan.get("modes") or ["strong"]
    options = {
        "--mode": "both" if len(modes) > 1 else modes[0],
        "--ranks": ",".join(str(ranks) for ranks in sorted({entry[1] for entry in plan["order"]})),
        # Our jobs know by themselves how they grow.
        "--weak": plan["weak"] if "=" in (plan.get("weak") or "") else None,
        "--launches": plan.get("launches"),
        "--threads": plan.get("threads"),
        "--gpus-per-rank": plan.get("gpus_per_rank") or None,
        "--timeout": plan.get("timeout"),
        "--cores": plan.get("cores_given"),
        "--cores-per-node": plan.get("cores_per_node"),
        # Other launchers are found by the sweep itself.
        "--launcher": plan["launcher"] if "{ranks}" in (plan.get("launcher") or "") else None,
        "--seed": plan.get("seed"),
        "--charge": plan.get("charge"),
        "--runs": plan.get("runs"),
        "--case": plan.get("case"),
    }
    given = [(name, _word(value)) for name, value in options.items() if value is not None]
    given += _measured(plan.get("measure") or {})
    given += [("--link", glob) for glob in plan.get("link") or ()] + _notes(plan)
    flags = [f"--{name}" for name in ("keep", "copies") if plan.get(name)]
    return shlex.join(["rankwise", "sweep", *chain(*given), *flags, "--", *plan["command"]])


def _notes(plan: dict[str, Any]) -> list[tuple[str, str]]:
    return [("--note", f"{key}={value}") for key, value in (plan.get("notes") or {}).items()]


def _import_command(plan: dict[str, Any]) -> str:
    words = ["rankwise", "import", plan["supplied"]["file"], *chain(*_notes(plan))]
    if plan.get("cores_per_node"):
        words += ["--cores-per-node", str(plan["cores_per_node"])]
    return shlex.join(words)


def _measured(wanted: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the options that say what is measured, from the plan."""
    names = ("seconds", "rate", "work", "time_file")
    given = [(f"--{name.replace('_', '-')}", wanted[name]) for name in names if wanted.get(name)]
    phases = (wanted.get("phases") or {}).items()
    given += [("--phase", f"{name}={pattern}") for name, pattern in phases]
    for name in ("require", "refuse"):
        given += [(f"--{name}", pattern) for pattern in wanted.get(name) or ()]
    return given


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
