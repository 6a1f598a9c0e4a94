"""What is read from the folder of a sweep, and what is said of a folder that cannot be read."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from rankwise.sweep.folder import FolderError, Limit, load, write_json, write_run
from tests.analysis.examples import plan, run, with_queue, write_limit, write_sweep

SEEN = {"ranks": 1, "looks": 2}
QUEUE = with_queue([run()], lambda run: [2.0])[0].facts["queue"]


def damage(folder):
    """Return what is said of runs that cannot be read; none of them counts."""
    whole = load(folder)
    assert whole.runs == []
    return " ".join(whole.damaged)


def test_sweep_is_read_back_in_order_of_start(tmp_path):
    runs = [run(ranks=2, launch=1, start="b"), run(ranks=1, launch=1, start="a")]
    write_sweep(tmp_path, plan([1, 2], launches=1), runs)
    sweep = load(tmp_path)
    assert sweep.runs == runs[::-1]
    assert sweep.plan["command"] == ["jobs/demo.py", "--n", "1e6"]
    assert (sweep.folder, sweep.missing) == (tmp_path, [])


def test_unknown_keys_are_left_alone(tmp_path):
    write_sweep(tmp_path, {**plan([1], launches=1), "new": 1}, [run()])
    path = tmp_path / "runs" / "strong-1-1" / "run.json"
    write_json(path, {**json.loads(path.read_text()), "new": 1})
    assert load(tmp_path).runs == [run()]


def test_output_that_is_not_utf8_is_read_back(tmp_path):
    failed = run(outcome="failed", output_end="caf\udce9 \x1b[31m")
    write_sweep(tmp_path, plan([1], launches=1), [failed])
    assert load(tmp_path).runs == [failed]


def test_planned_runs_that_are_absent_are_missing(tmp_path):
    write_sweep(tmp_path, plan([1, 2, 4], launches=2), [run(), run(launch=2), run(ranks=2)])
    (tmp_path / "runs" / "strong-2-2").mkdir()  # killed before it wrote how it went
    assert load(tmp_path).missing == [
        "strong scaling on 2 ranks: 1 of 2 launches did not take place",
        "strong scaling on 4 ranks: 2 of 2 launches did not take place",
    ]


def test_folders_of_one_command_are_one_sweep(tmp_path):
    for nodes in (1, 2, 10):
        planned = plan([nodes], launches=1)
        write_sweep(tmp_path / f"nodes-{nodes}", planned, [run(ranks=nodes, nodes=nodes)])
    (tmp_path / "nodes-4").mkdir()
    (tmp_path / "figures").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "slurm-7.out").touch()
    sweep = load(tmp_path)
    assert [r.nodes for r in sweep.runs] == [1, 2, 10]
    assert sweep.missing == ["nodes-4: nothing was measured there"]
    assert sweep.plan["folders"] == ["nodes-1", "nodes-2", "nodes-10"]
    assert len(sweep.plan["order"]) == 3


def test_missing_runs_name_their_folder(tmp_path):
    write_sweep(tmp_path / "nodes-1", plan([1], launches=1), [run()])
    write_sweep(tmp_path / "nodes-2", plan([2], launches=1), [])
    assert load(tmp_path).missing == [
        "nodes-2: strong scaling on 2 ranks: 1 of 1 launch did not take place"
    ]


@pytest.mark.parametrize("what", ["files", "measure", "weak", "threads", "gpus_per_rank"])
def test_sweeps_that_differ_in_what_is_compared_are_refused(tmp_path, what):
    value = {"files": {"a": "b"}, "measure": {}, "weak": "n=2*ranks"}.get(what, 7)
    write_sweep(tmp_path / "a", plan([1], launches=1), [run()])
    write_sweep(tmp_path / "b", {**plan([2], launches=1), what: value}, [run(ranks=2)])
    with pytest.raises(FolderError, match=f"differ in {what}"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("machine", 3),
        ("versions", [1]),
        ("weak", 5),
        ("launcher", {}),
        ("seed", "x"),
        ("supplied", "t.csv"),
        ("notes", ["a=b"]),
        ("cores_per_node", "64"),
    ],
)
def test_plan_with_values_of_the_wrong_kind(tmp_path, name, value):
    write_sweep(tmp_path / "a", {**plan([1]), name: value}, [run()])
    with pytest.raises(FolderError, match=f"'{name}' is of the wrong type"):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("modes", [3]),
        ("cores", ["4", "4"]),
        ("cores", [[4]]),
        ("link", [None]),
        ("warnings", [{}]),
        ("command", [1]),
        ("machine", {"nodes": "two"}),
        ("machine", {"memory_bytes": "64 GiB"}),
        ("machine", {"cores": [8]}),
        ("measure", {"seconds": 3}),
        ("measure", {"phases": ["Pair"]}),
        ("mpi", {"library": 4}),
        ("billing", {"cores_per_node": "many"}),
        ("billing", {"whole_nodes": True}),
        ("supplied", {"file": 1, "sha256": "0"}),
    ],
)
def test_plan_with_a_wrong_value_inside(tmp_path, name, value):
    write_sweep(tmp_path / "a", {**plan([1]), name: value}, [run()])
    with pytest.raises(FolderError, match=f"'{name}' has a value of the wrong type"):
        load(tmp_path / "a")


@pytest.mark.parametrize("name", ["launches", "threads", "runs", "cores_given", "cores_per_node"])
@pytest.mark.parametrize("value", [0, -5])
def test_plan_with_a_count_below_one(tmp_path, name, value):
    write_sweep(tmp_path / "a", {**plan([1]), name: value}, [run()])
    with pytest.raises(FolderError, match=f"'{name}' is not above 0"):
        load(tmp_path / "a")


def test_numbers_beyond_all_measure_and_words_that_are_none(tmp_path):
    write_sweep(tmp_path / "a", plan([1], seed=-3), [run()])
    assert load(tmp_path / "a").damaged == []
    path = tmp_path / "a" / "runs" / "strong-1-1" / "run.json"
    text = path.read_text()
    path.write_text(text.replace('"cores": 8', f'"cores": 8{"0" * 400}'))
    assert "is too large a number" in damage(tmp_path / "a")
    path.write_text(text.replace('"mpirun",', "null,"))
    assert "'argv' is not a list of words" in damage(tmp_path / "a")


@pytest.mark.parametrize(
    "phases",
    [{"kernel": []}, {"kernel": 3}, {"kernel": ["a"]}, {"kernel": [1.0], "wait": [1.0, 2.0]}],
)
def test_phases_that_are_no_seconds_of_ranks(tmp_path, phases):
    write_sweep(tmp_path / "a", plan([1]), [run(phases=phases)])
    assert "'phases' are not seconds of each rank" in damage(tmp_path / "a")


@pytest.mark.parametrize(
    "facts, words",
    [
        ({"devices": "host"}, "'devices' is not a list"),
        ({"warnings": "too few cores"}, "'warnings' is not a list of sentences"),
        ({"warnings": [1]}, "'warnings' is not a list of sentences"),
        ({"warnings": None}, "'warnings' is not a list of sentences"),
        ({"kernel_bytes": "8"}, "'kernel_bytes' is not a number"),
        ({"kernel_gbs": None}, "'kernel_gbs' is not a number"),
        ({"hosts": [1]}, "'hosts' is not a list of names"),
        ({"checks": None}, "'checks' is not a list of checks"),
        ({"checks": ["rounding"]}, "'checks' is not a list of checks"),
        ({"checks": [{"why": "rounding", "error": 0.0}]}, "'checks' is not a list of checks"),
        ({"checks": [{"why": 1, "error": 0.0, "bound": 0}]}, "'checks' is not a list of checks"),
        ({"peak_memory_rank": "1 GB"}, "'peak_memory_rank' or 'peak_memory_node' is not a number"),
        ({"peak_memory_node": math.nan}, "'peak_memory_rank' or 'peak_memory_node' is not a num"),
        ({"usage": None}, "'usage' is not what ranks used"),
        ({"usage": {}}, "'usage' is not what ranks used"),
        ({"usage": {"ranks": 1}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"read_bytes": -1}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"read_bytes": 2.5}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"read_bytes": True}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"read_bytes": 10**400}}, f"1{'0' * 19}... is too large a number"),
        ({"usage": SEEN | {"unseen_seconds": -0.1}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"unseen_seconds": math.nan}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"unseen_seconds": math.inf}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"unseen_seconds": "0.1"}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"unseen_seconds": True}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"unseen_seconds": None}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"sstat": None}}, "'usage' is not what ranks used"),
        ({"usage": SEEN | {"sstat": {"read_bytes": "5"}}}, "'usage' is not what ranks used"),
        *(
            ({"queue": queue}, "'queue' is not how the ranks shared tasks")
            for queue in (
                None,
                ["block"],
                {"schedule": "block"},
                QUEUE | {"schedule": 2},
                QUEUE | {"tasks": "many"},
                QUEUE | {"imbalance": None},
                QUEUE | {"longest": math.inf},
                QUEUE | {"busy": 1.0},
                QUEUE | {"busy": []},
                QUEUE | {"busy": [-1.0]},
                QUEUE | {"chunks": [True]},
                QUEUE | {"over_mean": [1.0, 1.0]},
                QUEUE | {"over_mean": [math.nan]},
                # Of one rank it is 1.
                QUEUE | {"over_mean": [1e308]},
                QUEUE | {"tasks": 3.5},
            )
        ),
    ],
)
def test_damaged_facts(tmp_path, facts, words):
    write_sweep(tmp_path, plan([1]), [run(facts=facts)])
    assert f"run.json is damaged: {words}" in damage(tmp_path)


def test_what_ranks_used_is_read_back(tmp_path):
    seen = run(
        facts={
            "usage": SEEN | {"read_bytes": 0, "unseen_seconds": 0.25, "sstat": {"read_bytes": 7}}
        }
    )
    write_sweep(tmp_path, plan([1], launches=1), [seen])
    assert load(tmp_path).runs == [seen]


def test_limit_is_the_median_of_the_nodes(tmp_path):
    write_sweep(tmp_path, plan([1], launches=1), [run()])
    assert load(tmp_path).limit is None
    counts = {"ranks": 6, "nodes": 3, "threads": 4}
    write_limit(tmp_path / "preflight.h5", (30.0, 10.0, 29.0), (25.0, 24.0, 5.0), **counts)
    start = "2026-11-25T01:02:03.000+00:00"
    assert load(tmp_path).limit == Limit(29.0, 24.0, 6, 3, 4, start, ("n001",))


def test_limit_of_several_folders_is_the_one_beside_them_or_in_the_first(tmp_path):
    for nodes in (1, 2, 10):
        write_sweep(tmp_path / f"nodes-{nodes}", plan([nodes], launches=1), [run(ranks=nodes)])
    assert load(tmp_path).limit is None
    for k, place in enumerate(("nodes-10/", "nodes-2/", "")):
        write_limit(tmp_path / f"{place}preflight.h5", read=(10.0 + k,))
        assert load(tmp_path).limit.read_gbs == 10 + k


def test_limit_that_is_no_record(tmp_path):
    write_sweep(tmp_path, plan([1], launches=1), [run()])
    path = tmp_path / "preflight.h5"
    for spoil in (lambda: path.write_bytes(b"\x89HDF"), lambda: path.unlink() or path.mkdir()):
        spoil()
        with pytest.raises(FolderError, match=r"preflight\.h5 cannot be used: "):
            load(tmp_path)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"schema": 2}, "not a record of schema"),
        ({"read": None}, "lacks 'read_bandwidth'"),
        ({"copy": None}, "lacks 'copy_bandwidth'"),
        ({"copy": (25.0, 25.0)}, "not one of each node"),
        ({"nodes": 2}, "not one of each node"),
        ({"read": 30.0}, "not one of each node"),
        ({"read": (30,)}, "not one of each node"),
        ({"read": (float("nan"),)}, "above 0"),
        ({"read": (0.0,)}, "above 0"),
        ({"threads": 0}, "it is of no ranks, nodes or threads"),
        ({"start": 5}, "its attribute 'start' is missing or no str"),
    ],
)
def test_record_that_is_no_limit(tmp_path, changes, words):
    write_sweep(tmp_path, plan([1], launches=1), [run()])
    write_limit(tmp_path / "preflight.h5", **changes)
    with pytest.raises(FolderError, match=words) as error:
        load(tmp_path)
    assert str(error.value).startswith(str(tmp_path / "preflight.h5"))


def test_deep_nesting_is_damage(tmp_path):
    write_sweep(tmp_path / "a", plan([1]), [run()])
    (tmp_path / "a" / "sweep.json").write_text("[" * 10**6)
    with pytest.raises(FolderError, match="damaged"):
        load(tmp_path / "a")


def test_sweeps_of_different_commands_are_refused(tmp_path):
    write_sweep(tmp_path / "a", plan([1], launches=1), [run()])
    write_sweep(tmp_path / "b", {**plan([2], launches=1), "command": ["./other", "a b"]}, [])
    with pytest.raises(FolderError, match=r"commands, jobs/demo.py --n 1e6 and ./other 'a b':"):
        load(tmp_path)


def test_sweeps_of_the_same_point_are_refused(tmp_path):
    for name in "ab":
        write_sweep(tmp_path / name, plan([1], launches=1), [run()])
    with pytest.raises(FolderError, match=r"/a and .*/b both measured strong scaling on 1 rank: "):
        load(tmp_path)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda folder: None, "No such file or directory"),
        (lambda folder: folder.touch(), "Not a directory"),
        (lambda folder: folder.mkdir(), "is empty"),
        (lambda folder: (folder / "runs").mkdir(parents=True), "there is no sweep.json"),
    ],
    ids=["absent", "file", "empty", "foreign"],
)
def test_not_a_sweep(tmp_path, make, words):
    folder = tmp_path / "sweep"
    make(folder)
    with pytest.raises(FolderError, match=words) as error:
        load(folder)
    assert str(folder) in str(error.value)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is damaged"),
        (b'{"schema": 1', "is damaged"),
        (b"\xff\xfe", "is damaged"),
        (b"[]", "no JSON object"),
        (b"{}", "has schema None, this version reads 1"),
        (b'{"schema": 2}', "has schema 2, this version reads 1"),
        (b'{"schema": 1}', "no list 'command'"),
        (b'{"schema": 1, "command": ["a"]}', "no list 'order'"),
        (b'{"schema": 1, "command": [1], "order": []}', "'command' has a value of the wrong type"),
        (b'{"schema": 1, "command": ["a"], "order": [1]}', "not a list of launches"),
    ],
)
def test_damaged_plan(tmp_path, content, words):
    (tmp_path / "sweep.json").write_bytes(content)
    with pytest.raises(FolderError, match=words) as error:
        load(tmp_path)
    assert "sweep.json" in str(error.value)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"ranks": "two"}, "'ranks' is of the wrong type"),
        ({"phases": []}, "'phases' is of the wrong type"),
        ({"seconds": None}, "succeeded in None seconds"),
        ({"seconds": float("nan")}, "succeeded in nan seconds"),
        ({"seconds": -1.0}, "succeeded in -1.0 seconds"),
        ({"outcome": "fine"}, "unknown outcome 'fine'"),
        ({"mode": "both"}, "impossible mode"),
        ({"ranks": 0}, "impossible mode, ranks"),
    ],
)
def test_damaged_run(tmp_path, change, words):
    write_sweep(tmp_path, plan([1], launches=1), [])
    broken = tmp_path / "runs" / "x"
    broken.mkdir(parents=True)
    write_run(broken, replace(run(), **change))
    assert words in damage(tmp_path)


def test_run_that_lacks_a_key(tmp_path):
    write_sweep(tmp_path, plan([1], launches=1), [run()])
    path = tmp_path / "runs" / "strong-1-1" / "run.json"
    content = json.loads(path.read_text())
    del content["argv"]
    write_json(path, content)
    assert "it lacks 'argv'" in damage(tmp_path)


def test_damage_costs_its_run_alone(tmp_path):
    write_sweep(tmp_path, plan([1, 2], launches=1), [run(), run(ranks=2)])
    (tmp_path / "runs" / "strong-2-1" / "run.json").write_text('{"mode": "str')
    whole = load(tmp_path)
    assert [each.ranks for each in whole.runs] == [1]
    assert whole.missing == ["strong scaling on 2 ranks: 1 of 1 launch did not take place"]
    (damaged,) = whole.damaged
    assert "runs/strong-2-1/run.json is damaged" in damaged
    assert "the command of the sweep, given again, repeats that launch" in damaged
    # What failed before it was repeated is kept, and never repeated.
    (tmp_path / "runs" / "strong-2-1").rename(tmp_path / "runs" / "strong-2-1.failed1")
    assert load(tmp_path).damaged[0].endswith("remove that folder")
    # Nor is anything lost by one that cannot be read at all.
    (tmp_path / "runs" / "x" / "run.json").mkdir(parents=True)
    assert len(load(tmp_path).damaged) == 2


def test_relative_folder(tmp_path, monkeypatch):
    write_sweep(tmp_path, plan([1], launches=1), [run()])
    monkeypatch.chdir(tmp_path)
    assert load(Path()).runs == [run()]
