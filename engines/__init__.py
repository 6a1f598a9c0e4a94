"""The same work through the engines of Python, a file each: which one serves whose work.

Each has ``run(function, tasks, workers)``, which returns the result of every task, in their order;
and ``pool(workers)``, a context that gives what does tasks while the workers are there. `work` has
what they have in common, ``python -m engines compare`` sets them side by side.
"""
