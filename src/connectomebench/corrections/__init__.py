"""Ground-truth merges and splits from the difference of two segmentations."""
