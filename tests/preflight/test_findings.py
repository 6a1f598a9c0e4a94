import pytest

from rankwise.preflight.findings import Findings
from rankwise.ranks.agreement import Stop


def test_a_finding_is_a_line(capsys):
    findings = Findings(True)
    findings.add("memory", "30 GB/s")
    findings.add("files", "results/", None, "slow; move", "full")
    findings.add("launch", "", "one core", verdict="wrong")
    assert capsys.readouterr().out.splitlines() == [
        "  OK       memory    30 GB/s",
        "  warning  files     results/: slow; move",
        "  warning  files     results/: full",
        "  wrong    launch    one core",
    ]
    assert [row["verdict"] for row in findings.checks] == ["OK", "warning", "warning", "wrong"]
    assert findings.of("warning") == ["files: results/: slow; move", "files: results/: full"]


def test_nothing_is_told_unless_it_is_to_be(capsys):
    findings = Findings(False)
    findings.add("memory", "30 GB/s", "slow")
    findings.show("a line")
    assert capsys.readouterr().out == "" and len(findings.checks) == 1


@pytest.mark.mpi
def test_what_rank_0_found_wrong_ends_all(comm):
    findings = Findings(False)
    findings.add("memory", "30 GB/s", "slow")
    findings.end(comm)
    if comm.rank == 0:
        findings.add("launch", "", "one core", verdict="wrong")
        findings.add("files", "", "full", "locked", verdict="wrong")
    with pytest.raises(Stop, match=r"3 of 4 checks failed: files, launch$") as caught:
        findings.end(comm)
    assert caught.value.status == 1
