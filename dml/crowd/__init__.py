"""Many clients: up to thousands, of whom only a share takes part in a round, in one process or in several."""
