"""Clients that lie in well-formed messages, rules that bear them, and consensus by optimisation (notebook 06)."""
