"""Model cards, calibration plots and baseline scores."""
