"""Distributed mutual learning, tested: the helper package of the numbered notebooks (see README.md for its layout)."""
