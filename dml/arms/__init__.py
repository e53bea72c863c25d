"""The arms of the experiment, one screen each: what each method trains and says in a round (notebook 02)."""
