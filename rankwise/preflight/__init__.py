"""What a partition delivers, before a long run."""
