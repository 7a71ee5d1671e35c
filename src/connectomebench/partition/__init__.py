"""Leak-proof train, validation and test partitions."""
