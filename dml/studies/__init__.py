"""The studies of data/analysis_plan.md: what was fixed before their seeds, and how they come on record."""
