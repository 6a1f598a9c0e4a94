"""End a cluster of Dask, by an exception if told so, while its workers wait for a heartbeat."""

import asyncio
import sys
import time
from pathlib import Path

from distributed import scheduler

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from engines import dask_

answered = scheduler.Scheduler.heartbeat_worker
waiting = set()


def answer_late(self, *, address, **named):
    """Answer when the cluster has ended; but at once where the scheduler itself calls."""

    async def late():
        waiting.add(address)
        await asyncio.sleep(60)

    return late() if "executing" in named else answered(self, address=address, **named)


if __name__ == "__main__":
    scheduler.Scheduler.heartbeat_worker = answer_late
    with dask_.pool(2) as compute:
        print(compute(abs, [-1, -2]))
        while len(waiting) < 2:
            time.sleep(0.1)
        if sys.argv[1:]:
            sys.exit(sys.argv[1])
