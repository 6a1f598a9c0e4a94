"""Files that are complete or absent; the record; other people's files, read with suspicion."""
