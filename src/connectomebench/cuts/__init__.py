"""Minimum cuts of a segment, proposals, and the rule for a good cut."""
