"""Modules import in one direction, so that each can be understood from what lies below it.

Every import counts: also those inside functions, and those for type checkers alone.
"""

import ast
import re
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("rankwise", "jobs", "kernels", "engines")

# What each room of `rankwise` may import, besides itself. Its doors are rooms too.
BELOW = {"ranks": set(), "node": {"ranks"}, "disk": {"ranks"}}
for tower in (["data", "run", "preflight", "job"], ["sweep", "analysis", "report", "__main__"]):
    for floor, room in enumerate(tower):
        BELOW[room] = {"ranks", "node", "disk", *tower[:floor]}


def sources():
    """Return the source of every module of ours, by its name."""
    found = {}
    for path in (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return found


def imports(module, source, modules):
    """Return the modules of ours that a module imports."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: write its import with the whole name"
            both = {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            names |= {whole if whole in modules else node.module for whole in both.values()}
    return {name for name in names if name.partition(".")[0] in FOLDERS}


def allowed(module, target):
    """Tell whether a module may import another one."""
    (top, room, *_), (there, its_room, *_) = (f"{name}.".split(".") for name in (module, target))
    if top == "kernels":
        return there == "kernels"
    if top == "jobs":
        return there == "kernels" or target == "rankwise.job"
    if top == "engines":
        # As a script from any folder it finds the others by way of the package itself.
        return there in ("engines", "kernels") or target in ("rankwise", "rankwise.job")
    # The package itself knows where the code is, and imports nothing.
    return there == "rankwise" and (its_room in {"", room} or its_room in BELOW.get(room, ()))


def faults(modules):
    """Return what is wrong with the imports of modules, given by name and source."""
    graph = {module: imports(module, source, modules) for module, source in modules.items()}
    wrong = [
        f"{module} imports {target}"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if not allowed(module, target)
    ]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        wrong.append(f"circle: {' <- '.join(error.args[1])}")
    return wrong


def test_imports_keep_the_order():
    modules = sources()
    rooms = {name.split(".")[1] for name in modules if name.startswith("rankwise.")}
    assert rooms == set(BELOW)
    assert faults(modules) == []


@pytest.mark.parametrize(
    ("module", "source", "fault"),
    [
        ("rankwise.node.a", "from rankwise.disk import record", "rankwise.disk.record"),
        ("rankwise.disk.a", "def f():\n    import rankwise.node.code", "rankwise.node.code"),
        ("rankwise.sweep.a", "if TYPE_CHECKING:\n    import rankwise.report", "rankwise.report"),
        ("rankwise.sweep.a", "from rankwise.run.run import Run", "rankwise.run.run"),
        ("rankwise.ranks.a", "from rankwise import job", "rankwise.job"),
        ("rankwise.a", "from rankwise.ranks import clock", "rankwise.ranks.clock"),
        ("rankwise", "import rankwise.ranks.clock", "rankwise.ranks.clock"),
        ("rankwise.job", "import jobs.heat", "jobs.heat"),
        ("rankwise.run.a", "try:\n    import kernels\nexcept ImportError: pass", "kernels"),
        ("kernels.heat.a", "import rankwise", "rankwise"),
        ("jobs.a", "from rankwise.ranks.start import launch", "rankwise.ranks.start"),
        ("jobs.a", "import rankwise", "rankwise"),
        ("jobs.a", "from jobs import heat", "jobs.heat"),
        ("jobs.a", "from engines import work", "engines.work"),
        ("engines.a", "from rankwise.ranks import clock", "rankwise.ranks.clock"),
        ("engines.a", "from jobs import heat", "jobs.heat"),
    ],
)
def test_an_arrow_against_the_order_is_found(module, source, fault):
    others = dict.fromkeys(["rankwise.job", "rankwise.disk.record", "rankwise.ranks.clock"], "")
    modules = {**others, "jobs.heat": "", "engines.work": "", module: source}
    assert faults(modules) == [f"{module} imports {fault}"]


def test_a_circle_inside_a_room_is_found():
    modules = {
        "rankwise.run.a": "from rankwise.run import b",
        "rankwise.run.b": "def f():\n    from rankwise.run.c import g",
        "rankwise.run.c": "if TYPE_CHECKING:\n    import rankwise.run.a",
    }
    (fault,) = faults(modules)
    assert fault.startswith("circle: rankwise.run.")


def test_no_rank_waits_where_it_hears_no_signal():
    # mpi4py's sums of Python objects keep the interpreter to themselves while they wait.
    files = [*ROOT.glob("rankwise/**/*.py"), *ROOT.glob("jobs/*.py")]
    deaf = re.compile(r"\.(allreduce|reduce|scan|exscan)\(")
    assert files and [str(path) for path in files if deaf.search(path.read_text())] == []
