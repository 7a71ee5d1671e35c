"""The pipeline from a source to dataset folders."""
