"""Model evaluation: result records, metrics with confidence intervals, calibration, comparison."""
