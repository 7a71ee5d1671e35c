"""Recompute published results from the authors' records and compare."""
