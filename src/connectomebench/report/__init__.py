"""HTML reports of datasets and results."""
