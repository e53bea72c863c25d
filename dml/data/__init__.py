"""Images and who gets which: data sets found, verified, decoded, drawn, audited, and dealt into folds (notebook 01)."""
