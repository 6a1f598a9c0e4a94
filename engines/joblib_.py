"""joblib: a loop in parallel, which scikit-learn uses; worker processes stay for the next call.

    python engines/joblib_.py --work rows --workers 2

Tasks that take less than 0.2 s are sent in batches. An array of more than 1 MB is written to a file
in memory, which workers map: they see it without a copy, and can't change it. One worker is this
process itself.
"""

import rankwise  # noqa: F401, I001  # finds the clone, from any folder

from contextlib import contextmanager

from engines import work


@contextmanager
def pool(workers):
    """Start worker processes."""
    from joblib import Parallel, delayed
    from joblib.externals.loky import get_reusable_executor

    # One for each call, and the workers stay all the same. One for all calls returned, after a call
    # whose task raised, a result of that call among those of the next (joblib 1.6.0).
    try:
        yield lambda function, tasks: Parallel(workers)(delayed(function)(task) for task in tasks)
    finally:
        # They would wait for more tasks, for five minutes.
        get_reusable_executor().shutdown()


run = work.runner(pool)


if __name__ == "__main__":
    work.main(pool, __doc__)
