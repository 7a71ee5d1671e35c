"""Source of proofread neurons with simulated errors."""
