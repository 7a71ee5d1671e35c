"""Say what a file or folder is, what is in it, and which lines of a configuration would read it."""

from connectomebench.inspection.findings import Finding, as_json, as_text
from connectomebench.inspection.inspect_path import inspect_pair, inspect_path

__all__ = ["Finding", "as_json", "as_text", "inspect_pair", "inspect_path"]
