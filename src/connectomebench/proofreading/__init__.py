"""Proofread a whole segmentation: candidates, identification, correction, edits, scores and a review queue."""
