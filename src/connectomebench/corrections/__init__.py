"""Ground-truth merges and splits, from comparing two segmentations."""
