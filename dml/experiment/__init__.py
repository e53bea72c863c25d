"""Arms run for many seeds: the ladder's rungs, jobs, their cache and tables; and one round, watched (notebook 00)."""
