"""Tasks of rank 0 that take thirty times as long as those of the others, in pieces of 10 ms.

Rank 0 prints how many tasks each rank has done. Started by `test_queue.py`.
"""

from rankwise.job import launch

import time

from rankwise.data.queue import Queue
from rankwise.node import device
from rankwise.node.rank import Rank
from tests.data.pretended import running_clock

PIECES = 30


def main(comm, argv):
    rank = Rank(comm, running_clock(), device.choose(comm, "numpy", 1))

    def call(first, out):
        # A processor of its own for each rank, which this machine may not have.
        time.sleep(0.01 if comm.rank == 0 or first % PIECES == 0 else 0)
        out[:] = first

    with Queue(rank, 40, PIECES, schedule="dynamic") as queue:
        queue.compute(call, at_once=1)
        balance = queue.balance()
    if balance is not None:
        print(balance.chunks.tolist())


if __name__ == "__main__":
    launch(main)
