"""Start a program at every point, and keep how each run went."""
