"""Whether the MPI library takes addresses in the memory of a GPU, which no library tells reliably.

It is tried in a child process, since a wrong guess ends in a segmentation fault.
"""

import subprocess
import sys

import numpy as np

from rankwise.node.code import child_environment

# What makes a process believe that a launcher has started it: the child must be rank 0 of 1.
# Settings of the library stay: some turn its support of GPUs on.
_LAUNCHER = (
    *("PMI", "PRTE_", "HYDI_", "MPI_LOCAL", "PALS_", "FLUX_", "SLURM_"),
    *("OMPI_COMM_", "OMPI_UNIVERSE", "OMPI_MCA_ess", "OMPI_MCA_orte", "OMPI_MCA_pmix"),
)
_SECONDS = 60


def work(variant: str) -> bool:
    """Return whether a message from and into the memory of a GPU arrives.

    Parameters
    ----------
    variant : str
        ``cuda`` or ``cupy``: whose arrays are tried.
    """
    # -P: not what may lie under this name in the working folder.
    child = [sys.executable, "-P", "-m", "rankwise.preflight.device_buffers", variant]
    kept = {name: x for name, x in child_environment().items() if not name.startswith(_LAUNCHER)}
    try:
        done = subprocess.run(
            child, env=kept, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _main(variant: str) -> bool:
    from mpi4py import MPI

    from rankwise.node import device

    gpu = device.choose(MPI.COMM_SELF, variant)
    sent, received = gpu.to_device(np.arange(1000.0)), gpu.to_device(np.zeros(1000))
    gpu.synchronize()
    MPI.COMM_SELF.Sendrecv(sent, 0, recvbuf=received, source=0)
    gpu.synchronize()
    return bool((gpu.to_host(received) == np.arange(1000.0)).all())


if __name__ == "__main__":
    sys.exit(0 if _main(sys.argv[1]) else 1)
