"""A run that no command line has begun."""

from rankwise.node import device
from rankwise.node.rank import Rank
from rankwise.run.begin import Begun
from tests.data.pretended import running_clock


class Pretended(Begun):
    """What a test says that a run has, on the host."""

    def __init__(self, comm, job, args, path):
        Rank.__init__(self, comm, running_clock(), device.choose(comm, "numpy"))
        self.job, self.args, self.path = job, args, path
        self.commit, self.errors, self.checks = "", [], []
        self.first_step = self.restarts = 0
