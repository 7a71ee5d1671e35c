"""Candidate places, their labels and matched controls."""
