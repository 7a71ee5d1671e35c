"""Runners: threads of this process, or a Dask cluster."""
