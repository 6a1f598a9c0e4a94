"""What is billed: the rate as it is given, and what Slurm says of an allocation."""

import argparse

import pytest

from rankwise.sweep import billing, options
from rankwise.sweep.billing import Charge


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
        "1 seventeen letters per node-hour", "6 00 per node-hours per core-hour s",
    ],
)  # fmt: skip
def test_what_is_no_charge(text):
    with pytest.raises(ValueError, match=r"per node-hour|at most 16 characters"):
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
    ("--runs", "0"),
]


@pytest.mark.parametrize(("option", "value"), MISTAKES)
def test_mistakes_leave_nothing_behind(rankwise, tmp_path, option, value):
    done = rankwise("sweep", "--ranks", "1", option, value, "--", "true")
    assert done.returncode == 2, done.stderr
    (line,) = [text for text in done.stderr.splitlines() if "error" in text]
    assert "--cores-per-node" in line or option in line
    assert list(tmp_path.iterdir()) == []
