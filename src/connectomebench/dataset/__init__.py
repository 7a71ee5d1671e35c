"""Datasets: stored rows, manifest, card and loading."""
