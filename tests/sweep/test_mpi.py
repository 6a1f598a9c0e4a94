"""Which MPI a program wants and a launcher has; the programs of Debian: test_programs.py."""

import os
import sys
from pathlib import Path

import pytest

from rankwise.sweep import mpi
from rankwise.sweep.command import Command
from rankwise.sweep.mpi import MPICH, OPEN_MPI, Linked

OURS = Path(sys.executable).parent


@pytest.mark.parametrize(
    ("library", "family"),
    [
        ("/lib/x86_64-linux-gnu/libmpi.so.40", OPEN_MPI),
        ("/lib/libmpi.so.40.30.4", OPEN_MPI),
        ("libmpi_usempif08.so.40", OPEN_MPI),
        ("libmpi.so.20", OPEN_MPI),
        ("libmpi.so.12", MPICH),
        ("/opt/intel/libmpi.so.12.0.0", MPICH),
        ("libmpich.so.12", MPICH),
        ("libmpi_cray.so.12", MPICH),
        ("libmpi_gnu_123.so.12.0.0", MPICH),
        ("libmpi_nvidia.so.12", MPICH),
        ("libmpi.so", None),
        ("libmpicxx.so.12", None),
        ("libmpifort.so.12", None),
        ("libhdf5.so.40", None),
        ("libmpir.so.40", None),
        ("", None),
    ],
)
def test_family_of_a_library(library, family):
    assert mpi.family_of(library) == family


def looked_at(*words):
    command = Command.parse(list(words), None, None)
    return mpi.linked(command.words, command.program, command.script)


def test_python_program_is_linked_to_what_its_interpreter_loads(tmp_path):
    program = tmp_path / "p.py"
    program.write_text("from mpi4py import MPI\n")
    for words in ([str(program)], [sys.executable, str(program)], [sys.executable, "-m", "p"]):
        found = looked_at(*words)
        assert found.family == MPICH
        assert found.library.startswith(sys.prefix)
        assert found.beside == OURS
        assert found.sure == ("-m" not in words)
    # Its interpreter chooses the launcher, but is no reason to refuse one.
    program.write_text("import numpy, helper\n")
    assert (looked_at(str(program)).family, looked_at(str(program)).sure) == (MPICH, False)


def test_python_program_that_imports_nothing_else_has_no_mpi(tmp_path):
    program = tmp_path / "p.py"
    program.write_text("import os, json.decoder\nfrom sys import argv\n")
    assert looked_at(str(program)).family is None


def test_a_python_script_is_told_by_its_first_line(tmp_path):
    script = tmp_path / "tool"
    for first in (f"#!{sys.executable}", f"#!/usr/bin/env -S {sys.executable} -u"):
        script.write_text(f"{first}\nimport mpi4py\n")
        script.chmod(0o755)
        assert looked_at(str(script)).library.startswith(sys.prefix)
    script.write_text("#!/bin/sh\nexit\n")
    assert looked_at(str(script)) == Linked("tool")


def test_an_interpreter_without_mpi4py_is_not_known(tmp_path):
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    assert looked_at(str(bare), "-m", "p").family is None


@pytest.mark.parametrize("words", [("sleep", "1"), ("./none",), ("sh", "-c", "true")])
def test_what_is_not_linked_to_mpi_is_not_known(words):
    assert looked_at(*words).family is None


def test_libraries_are_those_of_the_program_behind_env():
    libraries = looked_at("env", "X=1", "taskset", "-c", "0", sys.executable).libraries
    assert libraries == tuple(mpi._ldd(Path(sys.executable)))
    assert looked_at("sleep", "1").libraries != ()


def test_launchers_of_this_environment():
    assert mpi.family_of_launcher(str(OURS / "mpirun")) == MPICH
    assert mpi.is_launcher("/usr/bin/mpirun.openmpi") and mpi.is_launcher("mpiexec.hydra")
    for word in ("srun", "mpirunner", "mpirun.sh", "./mpirun.py", "my-mpirun"):
        assert not mpi.is_launcher(word)


@pytest.mark.parametrize(
    ("banner", "family"),
    [
        ("mpirun (Open MPI) 4.1.4", OPEN_MPI),
        ("mpirun (Open MPI) 5.0.11", OPEN_MPI),
        ("HYDRA build details:", MPICH),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11", MPICH),
        ("nobody", None),
    ],
)
def test_family_of_a_launcher(tmp_path, banner, family):
    path = tmp_path / "mpirun"
    path.write_text(f"#!/bin/sh\necho '{banner}'\n")
    path.chmod(0o755)
    assert mpi.family_of_launcher(str(path)) == family


def test_mismatch_is_one_sentence(monkeypatch):
    program = Linked("lmp", OPEN_MPI, "/lib/libmpi.so.40", sure=True)
    monkeypatch.setattr(mpi, "launchers_on_path", lambda linked: [str(OURS / "mpirun")])
    said = mpi.mismatch(program, "/opt/mpirun", MPICH)
    assert said.startswith("lmp is linked to Open MPI (/lib/libmpi.so.40), and /opt/mpirun belongs")
    assert "name a launcher of Open MPI with --launcher" in said and "\n" not in said
    assert mpi.mismatch(program, "/opt/mpirun", OPEN_MPI) == ""
    assert mpi.mismatch(program, "srun", None) == ""
    assert mpi.mismatch(Linked("sleep"), "/opt/mpirun", MPICH) == ""
    # What is only there need not be used.
    maybe = Linked("the mpi4py of python", MPICH, "/lib/libmpi.so.12")
    assert mpi.mismatch(maybe, "/opt/mpirun", OPEN_MPI) == ""
    # Where the right one is at hand, it is named.
    assert mpi.cure(MPICH) == f"say --launcher '{OURS / 'mpirun'} -n {{ranks}}'"


def test_launchers_are_looked_for_beside_the_interpreter_then_on_the_path(monkeypatch, tmp_path):
    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        folder.mkdir()
        (folder / "mpirun").write_text("#!/bin/sh\n")
        (folder / "mpirun").chmod(0o755)
    monkeypatch.setenv("PATH", os.pathsep.join(map(str, folders)))
    found = mpi.launchers_on_path(Linked())
    assert found[:3] == [
        str(folders[0] / "mpirun"),
        str(folders[1] / "mpirun"),
        str(OURS / "mpirun"),
    ]
    assert mpi.launchers_on_path(Linked(beside=OURS))[0] == str(OURS / "mpirun")
