"""Every figure, drawn from a run's tables alone: one style, and a name for each that its notebook begins with."""
