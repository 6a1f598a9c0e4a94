"""MPI jobs whose answers are checked and recorded, and sweeps that show how they scale."""
