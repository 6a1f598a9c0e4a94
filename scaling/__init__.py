"""Scaling of an MPI program: sweep rank counts, reduce the timings, report."""
