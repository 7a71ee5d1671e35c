"""Measuring models: calibration, statistics with intervals, and the records of results."""
