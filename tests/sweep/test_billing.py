"""What is billed: the rate as it is given, and what Slurm says of an allocation."""

import argparse
from types import SimpleNamespace

import pytest

from rankwise.sweep import billing, options, sweep
from rankwise.sweep.billing import Charge
from rankwise.sweep.folder import FolderError, load
from rankwise.sweep.launchers import Resources, UsageError
from tests.analysis.examples import plan, run, write_sweep


@pytest.mark.parametrize(
    ("text", "number", "unit", "per"),
    [
        ("600 CU per node-hour", 600.0, "CU", "node-hour"),
        ("0.02 EUR per core-hour", 0.02, "EUR", "core-hour"),
        ("  3 per gpu-hours ", 3.0, "units", "GPU-hour"),
        ("1.5€ per Node-Hour", 1.5, "€", "node-hour"),
        (".5 k CU per core-hour", 0.5, "k CU", "core-hour"),
    ],
)
def test_charge(text, number, unit, per):
    charge = Charge.parse(text)
    assert (charge.number, charge.unit, charge.per) == (number, unit, per)
    assert charge.text == text.strip()
    wanted = {"node-hour": 2.0, "core-hour": 256.0, "GPU-hour": 8.0}[per]
    assert charge.of(2.0, 256.0, 8.0) == pytest.approx(number * wanted)


@pytest.mark.parametrize(
    "text",
    [
        "", "600", "600 CU", "600 CU per hour", "CU per node-hour", "0 CU per node-hour",
        "-1 CU per node-hour", "0,02 EUR per core-hour", "1e400 CU per core-hour",
        "nan per node-hour",
        "1 a\x1b[31m per node-hour", "1 two\nlines per node-hour", "600 CU per node-hour or so",
        "1,5 EUR per core-hour", "12,000 CU per node-hour", "2 500 EUR per core-hour",
        "1.5.2 x per core-hour", "10^3 CU per node-hour", "3' x per node-hour",
        "\uff13 CU per node-hour",
        "3 core-hours per core-hour", "3 runs per core-hour", "3 launches per core-hour",
        "3 Node-hour per core-hour",
        "1 seventeen letters per node-hour", "6 00 per node-hours per core-hour s",
    ],
)  # fmt: skip
def test_what_is_no_charge(text):
    with pytest.raises(ValueError, match=r"per node-hour|at most 16 char|no unit of a charge"):
        Charge.parse(text)


@pytest.mark.parametrize(
    "text", ["0", "-1", "1.5", "many", "10000001", "1" * 5000, "\u0664", "1_0", " 1", ""]
)
def test_what_is_no_number_of_runs(text):
    with pytest.raises(argparse.ArgumentTypeError, match="not a whole number from 1 to 10000000"):
        options.whole_number(text)


def test_whole_numbers():
    assert [options.whole_number(text) for text in ("1", "08", "10000000")] == [1, 8, 10**7]


def test_nothing_is_known_outside_slurm(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert billing.of_allocation() == {}


@pytest.mark.parametrize(
    ("gres", "gpus"),
    [
        ("(null)", 0), ("", 0), ("gpu:2", 2), ("gpu:a100:4", 4), ("gpu:a100:4(S:0-1)", 4),
        ("gpu:a100:3(S:0),gpu:t4:1,shard:8", 4), ("craynetwork:4,gpu:h100:8(S:0-7)", 8),
    ],
)  # fmt: skip
def test_gpus_of_a_node(gres, gpus):
    assert billing._gpus({"Gres": gres}) == gpus


MISTAKES = [
    ("--charge", "600 CU per node-hour"),
    ("--charge", "600 CU a week"),
    ("--charge", "3 EUR per GPU-hour"),
    ("--runs", "0"),
]


@pytest.mark.parametrize(("option", "value"), MISTAKES)
def test_mistakes_leave_nothing_behind(rankwise, tmp_path, option, value):
    done = rankwise("sweep", "--ranks", "1", option, value, "--", "true")
    assert done.returncode == 2, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if "error" in text]
    assert "--cores-per-node" in line or option in line
    assert list(tmp_path.iterdir()) == []


JOB = """\
JobId=7 OverSubscribe={over} NumCPUs=8 CPUs/Task=1 TRES=cpu=8,node=2,billing=17 \
Command=./go --note OverSubscribe=NO NumCPUs=16"""
NODES = """\
NodeName=n1 CoresPerSocket=4 CPUTot={cpus} Sockets=2 Gres=gpu:a100:2
NodeName=n2 CoresPerSocket=4 CPUTot=8 Sockets=1 Gres=(null)"""


@pytest.mark.parametrize(
    ("over", "cpus", "why"),
    [("NO", "8", "OverSubscribe=NO"), ("OK", "8", ""), ("OK", "N/A", "every CPU")],
)
def test_what_scontrol_says_of_a_job_and_its_nodes(tmp_path, monkeypatch, over, cpus, why):
    """Also where it says what is no number, or a command has words like its own."""
    text = f"case $3 in job) echo '{JOB}';; node) echo '{NODES}';; esac"
    (tmp_path / "scontrol").write_text("#!/bin/sh\n" + text.format(over=over, cpus=cpus) + "\n")
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "n[1-2]")
    found = billing.of_allocation()
    assert found["whole_nodes"].startswith(why) and bool(found["whole_nodes"]) == bool(why)
    assert (found["billing"], found["cores_per_node"], found["gpus_per_node"]) == ("17", 4, 0)
    (tmp_path / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert billing.of_allocation() == {}


def test_what_is_not_said_again_stays_as_it_was(rankwise, tmp_path):
    words = ["sweep", "--ranks", "1", "--launches", "1", "--folder", "s", "--copies"]
    said = ["--charge", "2 EUR per node-hour", "--cores-per-node", "64", "--runs", "5"]
    said += ["--note", "a=1"]
    assert rankwise(*words, *said, "--", "true").returncode == 0
    for more in ([], ["--note", "b=2"], ["--runs", "7", "--report"]):
        done = rankwise(*words, *more, "--", "true")
        assert (done.returncode, "going on with s" in done.stdout) == (0, True), done.stderr
    plan = load(tmp_path / "s").plan
    assert (plan["charge"], plan["cores_per_node"], plan["runs"]) == ("2 EUR per node-hour", 64, 7)
    assert plan["notes"] == {"a": "1", "b": "2"}
    assert "EUR" in done.stdout
    # A new rate by the node, of nodes whose size was said before.
    done = rankwise(*words, "--charge", "3 CU per node-hour", "--", "true")
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "s").plan["charge"] == "3 CU per node-hour"


def test_dry_run_says_what_is_charged_at_most(rankwise, tmp_path):
    words = ["--ranks", "1", "--launches", "3", "--timeout", "1200", "--cores-per-node", "64"]
    done = rankwise("sweep", *words, "--charge", "60 CU per node-hour", "--dry-run", "--", "true")
    assert "3 launches, each ended after 1200 s at the latest" in done.stdout
    assert done.stdout.rstrip().endswith("charged as at most 60 CU")
    assert list(tmp_path.iterdir()) == []


def test_what_is_charged_at_most_is_of_whole_nodes_where_slurm_bills_them():
    # Of two nodes of 128 cores and 4 GPUs the job has 16 cores, and no GPU that it knows of.
    facts = {"whole_nodes": "OverSubscribe=NO", "cores_per_node": 128, "gpus_per_node": 4}
    found = Resources((8, 8), 0, slurm=True)
    for bill, cores, gpus in ((facts, 256, 8), ({**facts, "whole_nodes": ""}, 16, 0), ({}, 16, 0)):
        for per, most in (("core-hour", cores), ("GPU-hour", gpus)):
            made = {"charge": f"1 EUR per {per}", "billing": bill, "cores_per_node": None}
            told = sweep._most_charged(SimpleNamespace(plan=made, found=found), 1.0)
            assert told == f", charged as at most {most} EUR"


def test_the_size_of_a_node_is_not_taken_from_a_plan_that_is_not_kept(tmp_path):
    write_sweep(tmp_path / "s", plan([1], launches=1, cores_per_node=64), [])
    assert sweep._kept(tmp_path / "s")["cores_per_node"] == 64
    write_sweep(tmp_path / "r", plan([1], launches=1, cores_per_node=64, refused=True), [])
    assert sweep._kept(tmp_path / "r") == {} == sweep._kept(tmp_path / "none")


def test_cores_that_slurm_knows_better_are_refused():
    facts = {"cores_per_node": 4}
    billing.refuse_unknown(None, facts, 4, 0)
    with pytest.raises(UsageError, match="Slurm says that a node has 4 cores"):
        billing.refuse_unknown(None, facts, 16, 0)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("notes", {"compiler": "gcc 12"}, {"compiler": "gcc 13"}),
        ("charge", "1 CU per core-hour", None),
        ("cores_per_node", 64, 128),
        (
            "billing",
            {"whole_nodes": "OverSubscribe=NO", "billing": "4"},
            {"whole_nodes": "", "billing": "4"},
        ),
    ],
)
def test_folders_with_other_bills_are_not_one_sweep(tmp_path, name, one, other):
    for k, value in enumerate((one, other), 1):
        write_sweep(tmp_path / f"nodes-{k}", plan([k], launches=1, **{name: value}), [run(ranks=k)])
    with pytest.raises(FolderError, match=f"differ in {name}"):
        load(tmp_path)


def test_folders_are_one_sweep_whatever_slurm_calls_their_bills(tmp_path):
    for k in (1, 2):
        told = {"whole_nodes": "OverSubscribe=NO", "billing": str(4 * k)}
        write_sweep(tmp_path / f"nodes-{k}", plan([k], launches=1, billing=told), [run(ranks=k)])
    assert load(tmp_path).plan["billing"]["billing"] == "4, 8"
