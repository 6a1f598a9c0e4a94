"""Published scaling data, with their sources; what the laws make of them is compared with print.

Nothing here was measured by this project.
"""

from pathlib import Path

from rankwise.sweep.folder import Run, Sweep

# GROMACS 2018.3, 3 million atoms (HECBioSim), 10 000 steps, strong scaling on Piz Daint: Cray XC50,
# one rank of 12 threads and one NVIDIA P100 a node, Cray Aries. Wall-clock seconds, averages of 50
# runs. Source: Sarus user guide, version 1.0, "Cookbook / GROMACS", figure gromacs-results.svg,
# native runs (ETH Zurich / CSCS, BSD-3-Clause). The seconds are the middle of the error bars, read
# from the coordinates in that file, which give them to 0.01 s; the speedups are read from another
# panel of the same figure.
GROMACS_SECONDS = {4: 427.65, 8: 273.59, 16: 178.97, 32: 135.17, 64: 102.95}
GROMACS_SPEEDUP = {4: 1.0, 8: 1.5631, 16: 2.3895, 32: 3.1638, 64: 4.1540}

# SPEC SDM91 on a Sun SPARCcenter 2000, October 1994: simulated users and scripts per hour.
# Source: N. J. Gunther, Guerrilla Capacity Planning, Springer, 2007; as `specsdm91` in the R
# package usl. Its README prints contention, coherency and throughput at one user of a least-squares
# fit of the throughput, with their standard errors.
SDM91_USERS = (1, 18, 36, 72, 108, 144, 216)
SDM91_THROUGHPUT = (64.9, 995.9, 1652.4, 1853.2, 1828.9, 1775.0, 1702.2)
SDM91_SIGMA, SDM91_SIGMA_ERROR = 0.0277285, 0.0091217
SDM91_KAPPA, SDM91_KAPPA_ERROR = 0.0001044, 0.0000199
SDM91_ONE_USER = 90.0

# The R package usl, tests/coef.R: speedups and, in coef.Rout.save, sigma = kappa = 0.02.
USL_EXAMPLE = {1: 1.0, 2: 1.8868, 4: 3.0769, 6: 3.5294, 8: 3.5398, 10: 3.3557}

# M. J. Quinn, Parallel Programming in C with MPI and OpenMP, McGraw-Hill, 2003, section 7.5:
# speedups on 2 to 8 processors, and Karp and Flatt's serial fraction: constant in the first
# example, growing in the second.
QUINN = (
    ((1.82, 2.50, 3.08, 3.57, 4.00, 4.38, 4.71), (0.10,) * 7),
    (
        (1.87, 2.61, 3.23, 3.73, 4.14, 4.46, 4.71),
        (0.070, 0.075, 0.080, 0.085, 0.090, 0.095, 0.100),
    ),
)

# J. L. Gustafson, Reevaluating Amdahl's Law, CACM 31 (1988) 532-533: scaled speedups of 1020 and
# 1016 on 1024 processors at serial fractions of 0.4 and 0.8 per cent.
GUSTAFSON_PROCESSORS = 1024
GUSTAFSON = {0.004: 1020, 0.008: 1016}


def gromacs() -> Sweep:
    """Return the GROMACS data as a sweep: one run a point, which is the average of 50."""
    machine = {"cluster": "Piz Daint", "cpu": "Intel Xeon E5-2690v3", "cores": 12, "nodes": 64}
    runs = [
        Run(
            mode="strong",
            ranks=nodes,
            threads=12,
            launch=1,
            nodes=nodes,
            gpus=nodes,
            cores=12 * nodes,
            argv=["srun", "mdrun_mpi"],
            start="2019-01-01T00:00:00+00:00",
            outcome="ok",
            reason="",
            process_seconds=seconds,
            seconds=seconds,
            source="json",
            work=None,
            load=0.0,
            cpu=machine["cpu"],
            commit="",
        )
        for nodes, seconds in GROMACS_SECONDS.items()
    ]
    plan = {
        "command": ["mdrun_mpi", "-s", "benchmark.tpr", "-ntomp", "12"],
        "job": "GROMACS 2018.3",
        "launcher": "srun",
        "machine": machine,
    }
    return Sweep(Path("published"), plan, runs, [])
