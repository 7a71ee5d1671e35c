"""Model cards, calibration plots and baseline scores, from records and result records."""
