"""A real Slurm of four nodes on this machine, in namespaces of its own.

The daemons and all jobs live in one PID, mount, network, UTS and IPC namespace: a network that has
a loopback device and no other, and ``/run`` in memory. When the process that started it closes a
pipe, or dies in whatever way, the kernel ends all of it, so that no process, mount or file stays.

To try the templates by hand: ``python tests/slurm/cluster.py`` opens a shell on the login node, and
``python tests/slurm/cluster.py sinfo`` runs one command there.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
START_SECONDS = 30
COMMAND_SECONDS = 60
NAMESPACES = ["--pid", "--mount", "--net", "--uts", "--ipc"]
UNSHARE = ["unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc"]
PROGRAMS = ["ip", "munged", "nsenter", "sbatch", "slurmctld", "slurmd", "unshare"]
# What the caller's own environment or allocation would tell a job.
FOREIGN = re.compile(r"(SLURM|SBATCH|SRUN|SALLOC|SCANCEL|PMI|PMIX|CONDA)_|VIRTUAL_ENV$|PYTHONPATH$")
ADDED = {
    "SLURM_CONF": "/run/slurm.conf",
    # Under UCX the addresses of MPICH's ranks are so long that Slurm's pmi2 takes some in two parts
    # and fails; once in hundreds of starts.
    "MPIR_CVAR_CH4_NETMOD": "ofi",
}
OVER = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def unavailable():
    """Return why no cluster can be had here, or an empty string."""
    if os.geteuid() != 0:
        return "no root"
    if absent := [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]:
        return f"not installed: {', '.join(absent)}"
    tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True)
    return f"no namespaces: {tried.stderr.strip()}" if tried.returncode else ""


def _path():
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _environment():
    kept = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    return kept | {"PATH": _path()} | ADDED


class Cluster:
    """The login node of a running cluster.

    Parameters
    ----------
    init : int
        The first process of the namespaces.
    """

    def __init__(self, init):
        self.init = init

    def inside(self, *command, cwd="/"):
        """Return a command line that runs a command on the login node."""
        # nsenter leaves the working directory; env goes back to it.
        enter = ["nsenter", f"--target={self.init}", *NAMESPACES, "env", f"--chdir={cwd}"]
        return [*enter, *map(str, command)]

    def run(self, *command, cwd="/", env=None, check=True):
        """Run a command on the login node and return what it did, with text output."""
        done = subprocess.run(
            self.inside(*command, cwd=cwd),
            env=_environment() | (env or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: exit status {done.returncode}\n{done.stderr}")
        return done

    def sbatch(self, *options, cwd, env=None):
        """Submit a job and return its number."""
        shown = self.run("sbatch", "--parsable", *options, cwd=cwd, env=env).stdout
        return int(shown.partition(";")[0])

    def show(self, job):
        """Return what Slurm knows of a job: a dictionary for each task of an array, else one."""
        lines = self.run("scontrol", "--oneliner", "show", "job", job).stdout.splitlines()
        return [dict(re.findall(r"(\S+?)=(\S*)", line)) for line in lines]

    def wait(self, job, limit=120, states=OVER):
        """Wait until all tasks of a job are in one of the states, and return `show`."""
        end = time.monotonic() + limit
        while True:
            shown = self.show(job)
            if {task["JobState"] for task in shown} <= states:
                return shown
            if time.monotonic() > end:
                raise TimeoutError(f"after {limit} s: {shown}")
            time.sleep(0.1)

    def cancel(self, *jobs):
        """Cancel jobs."""
        self.run("scancel", *jobs)

    def ready(self):
        """Tell whether all nodes wait for work."""
        shown = self.run("sinfo", "--noheader", "--Node", "--format=%T", check=False).stdout
        return shown.split() == ["idle"] * 4

    def logs(self):
        """Return what the daemons wrote."""
        folder = Path(f"/proc/{self.init}/root/run/log")
        return "\n".join(f"== {path.name}\n{path.read_text()}" for path in folder.glob("*"))


@contextmanager
def cluster():
    """Bring a cluster up, and down at the end."""
    command = [*UNSHARE, "--propagation=private", "bash", str(HERE / "cluster.sh")]
    pipe = subprocess.PIPE
    # A session of its own: Ctrl-C on the terminal is for the tests, which then bring it down.
    daemons = subprocess.Popen(
        command, env=_environment(), stdin=pipe, stderr=pipe, text=True, start_new_session=True
    )
    try:
        yield _started(daemons)
    finally:
        # All that holds it up: its first process reads from this.
        daemons.stdin.close()
        daemons.wait()
        daemons.stderr.close()


def _started(daemons):
    """Wait until a cluster is up and return it."""
    children = Path(f"/proc/{daemons.pid}/task/{daemons.pid}/children")
    end = time.monotonic() + START_SECONDS
    login = None
    while daemons.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
        if found := children.read_text().split():
            login = Cluster(int(found[0]))
            if Path(f"/proc/{login.init}/root/run/slurm.conf").exists() and login.ready():
                return login
    if daemons.poll() is None and login:
        raise RuntimeError(f"no cluster after {START_SECONDS} s:\n{login.logs()}")
    raise RuntimeError(f"no cluster: {daemons.stderr.read()}")


if __name__ == "__main__":
    if reason := unavailable():
        sys.exit(f"no Slurm here: {reason}")
    with cluster() as login:
        shell = sys.argv[1:] or ["bash"]
        sys.exit(subprocess.call(login.inside(*shell, cwd=os.getcwd()), env=_environment()))
