"""The ground: ranks that start, agree and end together; signals; the clock."""
