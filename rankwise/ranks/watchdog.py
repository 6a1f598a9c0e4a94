"""Where the ranks stand, if none of them has moved for some time: a thread on each rank tells.

The thread looks at the clock of its rank, whose counter moves with every step and phase.
Where it stands still, the thread asks those of the other ranks, in messages of their own. A rank
waits inside MPI without Python's lock, so that its thread can answer.

Not `faulthandler.dump_traceback_later`: it fires inside kernels that are well, has to be armed
again in every step, and the ranks print into each other's lines.
"""

import logging
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rankwise.ranks import places
from rankwise.ranks.agreement import sleep_until_all
from rankwise.ranks.clock import Clock
from rankwise.ranks.words import short

if TYPE_CHECKING:
    from mpi4py import MPI

# In these a rank works by itself, for as long as it takes.
BUSY = ("import", "compile", "read", "kernel", "snapshot", "checkpoint", "write")
# How long a thread sleeps between two looks at most, and waits for the answers of others [s].
_PAUSE_SECONDS, _ANSWER_SECONDS = 0.5, 2.0
_ASK, _ANSWER = 1, 2
_log = logging.getLogger("rankwise")


class Answer(NamedTuple):
    """What the thread of a rank tells: how often its clock has moved, for how long it has not."""

    moves: int
    idle: float
    place: places.Place


class Watchdog:
    """Looks after the ranks until `end`. Collective.

    Parameters
    ----------
    comm : MPI.Comm
        All ranks of the job.
    clock : Clock
        That of this rank.
    seconds : float
        After so long without a move on any rank, and with none in a phase of `BUSY`, they are
        reported, once, on standard error; and when they move again [s].
    """

    def __init__(self, comm: "MPI.Comm", clock: Clock, seconds: float) -> None:
        from mpi4py import MPI

        self._world, self._clock, self._seconds = comm, clock, seconds
        self._pause = min(_PAUSE_SECONDS, max(seconds / 20, 0.005))
        self._rank, self._size = comm.rank, comm.size
        # Without this level only the main thread may call MPI, and each rank speaks for itself.
        several = MPI.Query_thread() == MPI.THREAD_MULTIPLE
        self._comm = comm.Dup() if several else None
        self._status, self._main = MPI.Status(), threading.get_ident()
        # Where debuggers find the ranks.
        self._processes = comm.allgather(f"process {os.getpid()} on {os.uname().nodename}")
        # The lowest rank asks. Should it be unable to, those after it do, one by one.
        self._delay = seconds + several * _ANSWER_SECONDS * comm.rank
        self._moves, self._moved = -1, 0.0
        # When this rank asks, unless something moves or another one asks before.
        self._due = 0.0
        self._number = 0
        # The moves of the ranks that have been reported, since one of them moved.
        self._reported: dict[int, int] = {}
        self._sent: list[MPI.Request] = []
        self._may_ask, self._quiet, self._ended = threading.Lock(), False, threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._notice()
        self._thread.start()

    def end(self) -> None:
        """Stop looking when all ranks have come here. Collective."""
        # Until the last one has come, there is something to look after.
        sleep_until_all(self._world)
        with self._may_ask:
            self._quiet = True
        # Nobody asks from here on, so that no thread waits for an answer.
        sleep_until_all(self._world)
        self._ended.set()
        self._thread.join()
        if self._comm is not None:
            self._comm.Free()

    def _watch(self) -> None:
        slept = time.monotonic()
        while not self._ended.wait(self._pause):
            if time.monotonic() - slept > _ANSWER_SECONDS:
                # Work that keeps Python's lock has kept this thread from looking.
                self._moves = -1
            self._notice()
            self._answer()
            with self._may_ask:
                if time.monotonic() >= self._due and not self._quiet:
                    self._look()
            slept = time.monotonic()

    def _notice(self) -> None:
        """See whether this rank has moved, or is at work."""
        now, moves = time.monotonic(), self._clock.moves
        if moves != self._moves or self._clock.current in BUSY:
            self._moves, self._moved, self._due = moves, now, now + self._delay
            self._tell_of_moves({self._rank: moves})

    def _own(self) -> Answer:
        self._notice()
        idle = time.monotonic() - self._moved
        return Answer(self._moves, idle, places.of(self._clock, self._main))

    def _answer(self) -> None:
        """Answer the ranks that ask. They look after this one meanwhile."""
        comm, status = self._comm, self._status
        while comm is not None and comm.iprobe(tag=_ASK, status=status):
            other = status.source
            number = comm.recv(source=other, tag=_ASK)
            self._forget_what_has_arrived()
            self._sent.append(comm.isend((number, self._own()), other, _ANSWER))
            self._due = time.monotonic() + self._delay

    def _ask(self) -> dict[int, Answer]:
        """Return what the ranks answer, this one included."""
        comm, status = self._comm, self._status
        answers = {self._rank: self._own()}
        if comm is None:
            return answers
        self._number += 1
        self._forget_what_has_arrived()
        # Not waiting: a rank may have been stopped.
        others = (other for other in range(self._size) if other != self._rank)
        self._sent += [comm.isend(self._number, other, _ASK) for other in others]
        end = time.monotonic() + _ANSWER_SECONDS
        while len(answers) < self._size and time.monotonic() < end:
            # Another rank may ask as well, and must not wait for this one.
            self._answer()
            while comm.iprobe(tag=_ANSWER, status=status):
                other = status.source
                number, answer = comm.recv(source=other, tag=_ANSWER)
                # One to an earlier question comes too late.
                if number == self._number:
                    answers[other] = answer
            time.sleep(0.005)
        return answers

    def _forget_what_has_arrived(self) -> None:
        self._sent = [request for request in self._sent if not request.test()[0]]

    def _look(self) -> None:
        """Ask the ranks, and report them if none has moved."""
        answers = self._ask()
        idle = min(answer.idle for answer in answers.values())
        moves = {rank: answer.moves for rank, answer in answers.items()}
        self._tell_of_moves(moves)
        if idle < self._seconds:
            self._due = time.monotonic() + max(self._pause, self._seconds - idle)
            return
        self._due = time.monotonic() + self._seconds
        # Ranks that answer at times only are not told again.
        if not moves.items() <= self._reported.items():
            self._reported |= moves
            _tell("\n".join(self._report(answers, idle)))

    def _report(self, answers: dict[int, Answer], idle: float) -> Iterator[str]:
        silent = [rank for rank in range(self._size) if rank not in answers]
        whose = "any rank that answers" if silent else "any rank"
        if self._comm is None:
            whose = f"rank {self._rank} of {self._size}"
        yield f"for {short(idle)} s no phase and no step has begun or ended on {whose}:"
        if silent and self._comm is not None:
            alone = f"; {self._processes[silent[0]]}" if len(silent) == 1 else ""
            yield (
                f"  {places.named(silent)}: no answer within {_ANSWER_SECONDS:g} s; ended, "
                f"stopped, or in a call that keeps Python's lock{alone}"
            )
        stand = {rank: answer.place for rank, answer in answers.items()}
        yield from places.table(stand, self._processes)
        if self._comm is None and self._size > 1:
            yield "  nothing is known of the others: in this MPI only the main thread may send"

    def _tell_of_moves(self, moves: dict[int, int]) -> None:
        """Say that what was reported is over, if a rank has moved since."""
        known = self._reported
        if any(moves[rank] != known.get(rank, moves[rank]) for rank in moves):
            self._reported = {}
            _tell("the ranks move again")


def _tell(text: str) -> None:
    _log.info(text)
    with suppress(OSError):
        print(f"{Path(sys.argv[0]).name}: {text}", file=sys.stderr, flush=True)
