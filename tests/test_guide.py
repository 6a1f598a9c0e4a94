"""`docs/guide.md`: its programs and commands run, its figures and files are there, it is right."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cases import long
from tests.copies import copy_clone, work

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGE = (DOCS / "guide.md").read_text()
README = (ROOT / "README.md").read_text()

# The headings of the guide, which is not part of this repository.
HEADINGS = """\
## Fundamentals of Parallel Processing
### Concurrency vs. Parallelism
### Types of Parallelism
### Amdahl's Law and Parallel Performance
### Challenges in Parallel Processing
## Python's Parallel Processing Modules
### multiprocessing Module
#### Creating and Managing Processes
#### Inter-Process Communication (IPC)
### threading Module
#### Creating and Managing Threads
#### Synchronization Primitives
### concurrent.futures Module
#### ThreadPoolExecutor and ProcessPoolExecutor
#### Future Objects and Asynchronous Execution
## Parallel Processing Techniques in Python
### Parallel Loops with multiprocessing.Pool
### Parallel Map and Reduce Operations
### Asynchronous I/O with asyncio
### Distributed Computing with mpi4py and dask
### GPU Acceleration with numba and cupy
## Best Practices and Tips
### Identifying Parallelizable Tasks
### Minimizing Communication and Synchronization Overhead
### Balancing Load Among Parallel Processes/Threads
### Avoiding Race Conditions and Deadlocks
### Debugging and Profiling Parallel Code
### When to Use Parallel Processing and When to Avoid It
## Real-World Applications
### Scientific Computing and Simulations
### Data Processing and Analytics
### Machine Learning and Deep Learning
### Web Scraping and Crawling
### Parallel Testing and Automation
## Future Trends and Advancements
### Emerging Parallel Processing Frameworks and Libraries
### Heterogeneous Computing and Accelerators
### Quantum Computing and Its Potential Impact on Parallel Processing
### Parallel Processing in the Cloud and Serverless Computing
""".splitlines()

# A program, the command that starts it where that is not `python NAME`, and what it prints.
PROGRAM = re.compile(
    r"```python\n(.*?)```\n\n(?:```bash\n(.*?)```\n\n)?```text\n(.*?)```", re.DOTALL
)
BASH = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```bash\n(.*?)```", re.DOTALL)
COMMANDS = [commands.strip() for excuse, commands in BASH.findall(PAGE) if not excuse]
ROW = re.compile(r"^\| (.*) \| `([^`]+)` \|$", re.MULTILINE)


def programs():
    """Return the name of each program, its text, its command and what it prints."""
    found = []
    for match in PROGRAM.finditer(PAGE):
        name = re.findall(r"`(\w+\.py)`", PAGE[: match.start()])[-1]
        found.append((name, match[1], match[2] or f"python {name}", match[3]))
    return found


def sections():
    """Return each heading, and the text below it without programs."""
    text = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL)
    return list(zip(*[iter(re.split(r"^(#+ .*)$", text, flags=re.MULTILINE)[1:])] * 2, strict=True))


def rows():
    """Return the commands of the table that nothing else here or in the README's test runs."""
    elsewhere = [*COMMANDS, *(command for _, _, command, _ in programs())]
    run = [command for said, command in ROW.findall(PAGE) if "(not tested here" not in said]
    readme = re.findall(r"^[^#\n]*[^#\s]", README, re.MULTILINE)
    return [command for command in run if command not in (*elsewhere, *readme)]


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """Copy the files that Git knows, and add the programs of the page."""
    folder = copy_clone(tmp_path_factory.mktemp("clone"))
    for name, text, _, _ in programs():
        assert not (folder / name).exists()
        (folder / name).write_text(text)
    return folder


def test_every_section_has_its_place():
    own = ["# The beginner's guide, section by section", "## Which section, what to run"]
    assert [head for head, _ in sections()] == [*own, *HEADINGS, "## What the guide leaves out"]
    for head, text in sections():
        if head.startswith("###"):
            assert re.fullmatch(
                "Says (Errs )?(Here|Not here)",
                " ".join(re.findall(r"^- \*\*([\w ]+):\*\*", text, re.MULTILINE)),
            ), head
    assert len(PAGE.splitlines()) <= 400


def test_programs_and_commands_are_found():
    assert [name for name, *_ in programs()] == ["fetch.py", "scatter.py", "waits.py"]
    assert (PAGE.count("```python"), PAGE.count("```text")) == (3, 3)
    assert (PAGE.count("```bash"), len(COMMANDS)) == (3, 2)
    (table,) = [text for head, text in sections() if head.endswith("what to run")]
    assert table.count("\n|") - 2 == len(ROW.findall(PAGE)) == 17
    assert len(rows()) == 4


@pytest.mark.parametrize(
    ("command", "shown"), [case[2:] for case in programs()], ids=[case[0] for case in programs()]
)
def test_programs_print_what_is_shown(clone, command, shown):
    assert work(clone, command) == shown


@pytest.mark.parametrize(
    "command",
    [
        *(
            command
            for command in COMMANDS
            if command not in [case[2].strip() for case in programs()]
        ),
        *map(long, rows()),
    ],
)
def test_commands_run(clone, command):
    assert work(clone, command)


def test_what_the_page_names_is_there():
    folders = "benchmarks|docs|engines|jobs|kernels|rankwise|slurm|tests"
    named = set(re.findall(rf"(?<![\w/])(?:{folders})/[\w./-]*\w", PAGE))
    assert len(named) > 20
    assert sorted(name for name in named if not (ROOT / name).exists()) == []


@pytest.mark.parametrize("link", sorted(set(re.findall(r"\]\(([^)\s]+)\)", PAGE))))
def test_links_lead_to_a_heading(link):
    name, _, anchor = link.partition("#")
    heads = re.findall(r"^#+ (.*)$", (DOCS / name).read_text(), re.MULTILINE)
    slugs = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
    assert not anchor or anchor in slugs


def test_figures_are_those_of_the_pages_named_beside_them():
    checked = 0
    for head, text in sections():
        pages = set(re.findall(r"\]\(([^)#\s]+\.md)", text))
        known = " ".join((DOCS / page).read_text() for page in pages)
        for figure in re.findall(r"\d+\.\d+(?= (?:s|times|to)\b)|\d+(?= microseconds)", text):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]*\d)", known), (head, figure)
            checked += 1
    assert checked >= 12


# What the page says against the guide: a program, and what it prints.
CLAIMS = {
    "pipes are two-way": (
        "from multiprocessing import Pipe\n"
        "a, b = Pipe()\na.send(1)\nb.send(2)\nprint(b.recv(), a.recv())",
        "1 2",
    ),
    "a Pool has no reduce": (
        "from multiprocessing.pool import Pool\nprint(hasattr(Pool, 'reduce'))",
        "False",
    ),
    "the end of with stops busy workers": (
        "import time\nfrom multiprocessing import Pool\n"
        "with Pool(1) as pool:\n    result = pool.map_async(time.sleep, [300])\n"
        "print(result.ready())",
        "False",
    ),
    "cancel does not stop what has begun": (
        "from concurrent.futures import ThreadPoolExecutor\nfrom threading import Event\n"
        "begun, end = Event(), Event()\n"
        "def task():\n    begun.set()\n    end.wait()\n"
        "with ThreadPoolExecutor(1) as pool:\n    future = pool.submit(task)\n"
        "    begun.wait()\n    print(future.cancel())\n    end.set()",
        "False",
    ),
    "what a task raised is not seen without result": (
        "from concurrent.futures import ThreadPoolExecutor, as_completed\n"
        "with ThreadPoolExecutor(1) as pool:\n"
        "    for future in as_completed([pool.submit(divmod, 1, 0)]):\n        print('ended')",
        "ended",
    ),
    "a lambda is refused": (
        "from concurrent.futures import ProcessPoolExecutor\n"
        "with ProcessPoolExecutor(1) as pool:\n"
        "    print('pickle' in str(pool.submit(lambda: 0).exception()))",
        "True",
    ),
    "join does not tell of an exception": (
        "import os, sys\nfrom multiprocessing import get_context\n"
        "process = get_context('fork').Process(target=divmod, args=(1, 0))\n"
        "process.start()\nprint(process.join(), process.exitcode)",
        "None 1",
    ),
    "a process must be relieved of what it has put before it is joined": (
        "from multiprocessing import get_context\nfork = get_context('fork')\n"
        "queue = fork.Queue()\n"
        "process = fork.Process(target=queue.put, args=(bytes(10**7),))\n"
        "process.start()\nprocess.join(0.5)\nprint(process.exitcode)\n"
        "queue.get()\nprocess.join()\nprint(process.exitcode)",
        "None\n0",
    ),
    "gather lets the others run on": (
        "import asyncio\nasync def fail():\n    1 / 0\n"
        "async def last():\n    await asyncio.sleep(0.01)\n    print('goes on')\n"
        "async def main():\n    other = asyncio.create_task(last())\n"
        "    try:\n        await asyncio.gather(fail(), other)\n"
        "    except ZeroDivisionError:\n        print('failed')\n    await other\n"
        "asyncio.run(main())",
        "failed\ngoes on",
    ),
    "forked workers draw the same numbers": (
        "import numpy as np\nfrom multiprocessing import get_context\n"
        "np.random.random()\nfork = get_context('fork')\nqueue = fork.Queue()\n"
        "def draw():\n    queue.put(np.random.random())\n"
        "processes = [fork.Process(target=draw) for _ in range(3)]\n"
        "for process in processes:\n    process.start()\n"
        "print(len({queue.get() for _ in processes}))",
        "1",
    ),
    "pdb ends at once in a process": (
        "from bdb import BdbQuit\nfrom multiprocessing import get_context\n"
        "def stop():\n    try:\n        breakpoint()\n        print('stopped')\n"
        "    except BdbQuit:\n        print('\\nquit')\n"
        "process = get_context('fork').Process(target=stop)\nprocess.start()\nprocess.join()",
        "quit",
    ),
    "cProfile sees nothing of workers": (
        "import cProfile, pstats\nfrom multiprocessing import get_context\n"
        "def hot(n):\n    return sum(range(n))\n"
        "with cProfile.Profile() as profile, get_context('fork').Pool(1) as pool:\n"
        "    pool.map(hot, [1000])\n"
        "print('hot' in {name for _, _, name in pstats.Stats(profile).stats})",
        "False",
    ),
    "the sum of numba depends on the threads": (
        "import numba, numpy as np\n"
        "@numba.njit(parallel=True)\ndef square(x):\n    total = 0.0\n"
        "    for i in numba.prange(x.size):\n        total += x[i] * x[i]\n    return total\n"
        "x, totals = np.random.default_rng(0).random(10**6), set()\n"
        "for threads in 1, 2:\n    numba.set_num_threads(threads)\n    totals.add(square(x))\n"
        "print(len(totals))",
        "2",
    ),
}


@pytest.mark.parametrize(("program", "printed"), CLAIMS.values(), ids=CLAIMS)
def test_claims(program, printed, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path,
        env={**os.environ, "NUMBA_NUM_THREADS": "2"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith(printed)
