"""Publish to the Hugging Face Hub: compare, validate, and commit once."""
