"""An annex: what the messages give away, attacked (notebook 03)."""
