"""Distributed mutual learning, tested: the helper package of the numbered notebooks (its layout: dml/README.md)."""
