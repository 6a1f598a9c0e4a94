"""What a program says of its run, and what is no answer."""

import json
import re
from argparse import Namespace

import jsonschema
import pytest

from rankwise.sweep.launchers import UsageError
from rankwise.sweep.measure import Figures, Measure, MeasureError, objects, seconds_of, values_of
from tests.copies import ROOT

PAGE = (ROOT / "docs" / "your-own-program.md").read_text()
SCHEMA = ROOT / "rankwise" / "sweep" / "line.schema.json"
# From runs of LAMMPS (Debian, 29 Sep 2021), and as Quantum ESPRESSO, GROMACS and NAS print it.
LAMMPS = """\
Loop time of 0.108854 on 1 procs for 100 steps with 4000 atoms

Performance: 396861.404 tau/day, 918.661 timesteps/s
99.4% CPU use with 1 MPI tasks x no OpenMP threads

MPI task timing breakdown:
Section |  min time  |  avg time  |  max time  |%varavg| %total
---------------------------------------------------------------
Pair    | 0.089781   | 0.089781   | 0.089781   |   0.0 | 82.48
Neigh   | 0.014606   | 0.014606   | 0.014606   |   0.0 | 13.42
"""
QE = "     PWSCF        :   1m 5.03s CPU   1h23m WALL\n"
GROMACS = "Performance:       35.102        0.684\n"
NAS = " Time in seconds =                    12.34\n Mop/s total     =               1.0D+02\n"


def options(**given):
    plain = {"seconds": None, "rate": None, "work": None, "time_file": None}
    return Namespace(**{**plain, "phase": [], "require": [], "refuse": [], **given})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5.03", 5.03),
        (" 7 ", 7),
        (".5", 0.5),
        ("1.0D+02", 100),
        ("1.5d-1", 0.15),
        ("1e3", 1000),
        ("1h23m", 4980),
        ("1h 3m", 3780),
        ("1m 5.03s", 65.03),
        ("5.03s", 5.03),
        ("5.03 s", 5.03),
        ("2d 1h", 176400),
        ("3 min", 180),
        ("1.5 h", 5400),
        ("90 sec", 90),
        ("2 hours 5.5 seconds", 7205.5),
        ("01:02:03", 3723),
        ("02:03.5", 123.5),
        ("3-01:02:03", 262923),
        ("1-02:03", 93780),
        *((text, None) for text in ("", "abc", "12 ms", "1:2:3:4", "****", "1.2.3", "s", "5 m x")),
    ],
)
def test_times_as_programs_print_them(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize(
    ("output", "given", "expected"),
    [
        (LAMMPS, {"seconds": r"Loop time of (\S+)"}, 0.108854),
        (LAMMPS + LAMMPS.replace("0.108854", "0.2"), {"seconds": r"Loop time of (\S+)"}, 0.2),
        (QE, {"seconds": r"PWSCF *:.*CPU +(.+?) +WALL"}, 4980.0),
        (QE, {"seconds": r"PWSCF *: +(.+?) +CPU"}, 65.03),
        (NAS, {"seconds": r"^ Time in seconds = +(\S+)"}, 12.34),
        ('{"a": 1,\n "t": "01:00"}\n', {"seconds": "json:t"}, 60.0),
    ],
)
def test_the_last_match_counts(output, given, expected):
    found = Measure(**given).figures(output, None)
    assert (found.seconds, found.source) == (expected, "output")
    # Nothing else is read into it.
    assert (found.rate, found.work, found.phases) == (None, None, {})


def test_everything_at_once():
    phases = {name: rf"^{name} +\| +\S+ +\| (\S+)" for name in ("Pair", "Neigh")}
    asked = Measure(
        seconds=r"Loop time of (\S+)",
        rate=r"([\d.]+) timesteps/s",
        work=r"with (\d+) atoms",
        phases=phases,
    )
    expected = {"Pair": [0.089781], "Neigh": [0.014606]}
    assert asked.figures(LAMMPS, None) == Figures(
        0.108854, "output", 918.661, 4000.0, expected, printed=1
    )
    assert asked.figures("nothing here", LAMMPS).source == "file"
    assert Measure(rate=r"Mop/s total += +(\S+)").figures(NAS, None).rate == 100
    assert Measure(rate=r"Performance: +(\S+)").figures(GROMACS, None).rate == 35.102


@pytest.mark.parametrize(
    ("given", "output", "message"),
    [
        ({"seconds": "t (.*)"}, "", "there is no match of --seconds 't (.*)' in its output"),
        ({"seconds": "t (.*)"}, "t ****", "'****', the match of --seconds 't (.*)' in its output"),
        ({"seconds": "t (.*)"}, "t 0", "it says that its time is 0"),
        ({"seconds": "t (.*)"}, "t -1", "it says that its time is -1"),
        ({"seconds": "json:t"}, '{"t": null}', "is no number or time"),
        ({"seconds": "json:t"}, '{"t": true}', "is no number or time"),
        ({"seconds": "json:t"}, '{"t": [1]}', "is no number or time"),
        ({"seconds": "json:t"}, '{"x": 1}', "no match of --seconds 'json:t'"),
        ({"rate": "r (.*)"}, "r 1h", "is no number or time"),
        ({"work": "w (.*)"}, "", "no match of --work"),
        ({"phases": {"A": "a (.*)"}}, "", "no match of --phase A 'a (.*)'"),
        ({"phases": {"A": "a (.*)"}}, "a -1", "its phase A took -1"),
        ({"require": ("JOB DONE",)}, "", "lacks what --require 'JOB DONE' asks for"),
        (
            {"refuse": ("Error",)},
            "x\n Error in routine (1): y \nz",
            "what --refuse 'Error' rules out: Error in routine (1): y",
        ),
        ({}, '{"seconds": 1, "work": "much"}', "'work': 'much', which is no number"),
        ({}, '{"seconds": 1, "phases": {"A": "x"}}', "'A': 'x', which is no number"),
        ({}, '{"seconds": 1, "phases": {"A": [1, 2], "B": [1, 2, 3]}}', "different numbers"),
        ({}, '{"seconds": "x"}', "'seconds': 'x', which is no number (--seconds json:seconds"),
        ({}, '{"seconds": true}', "'seconds': True, which is no number"),
        ({}, '{"seconds": 1, "phases": [1]}', "'phases' that are no object"),
        ({}, '{"seconds": 1, "rate": 0}', "it says that its rate is 0"),
    ],
)
def test_no_answer_is_a_failure(given, output, message):
    asked = Measure(**given)
    with pytest.raises(MeasureError) as error:
        asked.judge(output)
        asked.figures(output, None)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seconds": "Loop time"}, "has no groups: put (...) around the number"),
        ({"seconds": "(a)(b)"}, "has 2 groups"),
        ({"seconds": "(a"}, "is no regular expression"),
        ({"seconds": "json:"}, "names no key"),
        ({"rate": "x"}, "--rate 'x' has no groups"),
        ({"work": "x"}, "--work 'x' has no groups"),
        ({"phase": ["(x)"]}, "--phase '(x)' is not like"),
        ({"phase": ["A=x"]}, "--phase A 'x' has no groups"),
        ({"phase": ["A=(x)", "A=(y)"]}, "names 'A' twice"),
        ({"require": ["("]}, "--require '(' is no regular expression"),
        ({"refuse": ["["]}, "--refuse '[' is no regular expression"),
        ({"time_file": "t.txt"}, "--seconds says what for"),
    ],
)
def test_options_that_cannot_be_used(given, message):
    with pytest.raises(UsageError) as error:
        Measure.parse(options(**given))
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["seconds", "rate", "work"])
def test_a_phase_may_have_any_name(name):
    asked = Measure(seconds="t (.)", phases={name: "p (.)"})
    found = asked.figures("t 7\np 2\n", None)
    assert (found.seconds, found.rate, found.work) == (7, None, None)
    assert found.phases == {name: [2.0]}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"a": {"t": 1}}', [1]),
        ('{"t": 3, "a": {"t": 1}}', [3]),
        ('{"a": [{"t": 1}, {"b": {"t": 2}}]}', [2]),
        ('{"a": {"t": 1}}\n{"x": 2}\n{"t": 5}\n{"x": 1}', [1, 5]),
    ],
)
def test_a_key_may_be_inside(text, values):
    assert values_of("t", text) == values


def test_objects_of_long_outputs():
    # With a search from the start for each of them it would take minutes.
    text = 'step { 1 2 } of {"u": [\n{"t": 1}\n' * 100_000
    assert len(values_of("t", text)) == 100_000
    long = json.dumps({"x": "y" * 10**6, "t": 2})
    assert values_of("t", f"{{ {long}") == [2]


def test_options_are_kept_in_the_plan():
    given = {"seconds": "json:t", "phase": ["A=a=(.)"], "refuse": ["x"], "time_file": "t"}
    asked = Measure.parse(options(**given))
    assert asked.phases == {"A": "a=(.)"}
    assert asked.plan() == json.loads(json.dumps(asked.plan()))
    assert Measure.parse(options()).plan() is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ('{"t": 1}', [{"t": 1}]),
        ('before {"t": 1} after {"t": {"t": 2}}', [{"t": 1}, {"t": {"t": 2}}]),
        ('{\n  "t": 1\n}\n', [{"t": 1}]),
        ('{ {"t": 1}', [{"t": 1}]),
        # Lines of ranks, as srun --label, MPICH and Open MPI mark them, arrive in any order.
        ('0: {\n1: {"u": 2}\n0: "t": 1}\n', [{"u": 2}, {"t": 1}]),
        ('[0] {\n[1] {"u": 2}\n[0] "t": 1}\n', [{"u": 2}, {"t": 1}]),
        ('[1,0]<stdout>:{\n[1,1]<stdout>:{"u": 2}\n[1,0]<stdout>:"t": 1}\n', [{"u": 2}, {"t": 1}]),
        ("{" * 10_000, []),
        ('{"a":' * 10_000, []),
    ],
)
def test_objects_in_an_output(text, expected):
    assert objects(text) == expected


def test_only_a_line_of_its_own_tells_without_being_asked():
    # What a program was given is not what it took.
    assert Measure().figures('options {"seconds": 3600}\n{"seconds":\n 1}\n', None).seconds is None
    found = Measure().figures('0: {"seconds": 3}\n1: {"seconds": 2}\n', None)
    assert (found.seconds, found.source, found.printed) == (2, "json", 2)


GOOD = [
    {"seconds": 1},
    {"seconds": 0.5, "rate": 3, "work": 1e9, "phases": {"A": 1, "B": 0}, "more": "x"},
    {"seconds": 0.5, "phases": {"A": [1, 2], "B": [0.1, 0]}},
    # That of the page.
    json.loads(re.search(r"^    (\{.*\})$", PAGE, re.MULTILINE)[1]),
]
BAD = [
    {"seconds": 0},
    {"seconds": 1, "rate": "fast"},
    {"seconds": 1, "work": -1},
    {"seconds": 1, "phases": {"A": -1}},
    {"seconds": 1, "phases": {"A": "x"}},
    {"seconds": 1, "phases": []},
    {"seconds": "1"},
]


def test_schema_of_the_line_says_what_is_taken():
    validator = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text()))
    validator.check_schema(validator.schema)
    for line in GOOD:
        validator.validate(line)
        assert Measure().figures(json.dumps(line), None).seconds == line["seconds"]
    for line in BAD:
        assert not validator.is_valid(line)
        with pytest.raises(MeasureError):
            Measure().figures(json.dumps(line), None)


def test_the_line_may_carry_more():
    line = json.dumps(GOOD[1])
    found = Measure().figures(line, None)
    assert (found.rate, found.work, found.phases) == (3, 1e9, {"A": [1.0], "B": [0.0]})
    # What is asked for by name comes first.
    assert Measure(rate=r"r (\d)").figures(f"r 4\n{line}", None).rate == 4


def test_one_line_says_what_the_time_will_be_of():
    assert (
        Measure(seconds="json:t").told(False)
        == "time: 't' of the last JSON object in its output that has it"
    )
    assert (
        Measure(seconds="a (.)", time_file="f").told(False)
        == "time: the last match of 'a (.)' in f"
    )
    assert "record" in Measure().told(True)
    assert "of the whole process, start-up included" in Measure().told(False)


def test_the_schemas_are_in_the_docs():
    assert SCHEMA.read_text().strip() in PAGE
    assert "../rankwise/sweep/run.schema.json" in PAGE
