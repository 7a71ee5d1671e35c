"""The commands of ``connectomebench``, one module each; they import what is heavy only when they run."""

NAMES = (
    "build",
    "quickstart",
    "report",
    "doctor",
    "publish",
    "evaluate",
    "teacher",
    "replies",
    "compare",
    "transfer",
    "human_eval",
    "demo",
)
"""Modules of the commands, in the order of ``connectomebench --help``."""
