"""From tables to verdicts: every claim of the paper against what was measured, and the words that say so."""
