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

    # One context for all calls: each of them finds the workers there.
    try:
        with Parallel(n_jobs=workers) as parallel:
            yield lambda function, tasks: parallel(delayed(function)(task) for task in tasks)
    finally:
        # They would wait for more tasks, for five minutes.
        get_reusable_executor().shutdown()


run = work.runner(pool)


if __name__ == "__main__":
    work.compile_kernels()
    work.main(pool, __doc__)
