"""Commands of ``connectomebench``, one module each; heavy imports happen only when a command runs."""

NAMES = (
    "build",
    "check",
    "proofread",
    "compare_proofreading",
    "review",
    "submit",
    "quickstart",
    "report",
    "doctor",
    "inspect",
    "publish",
    "evaluate",
    "teacher",
    "replies",
    "compare",
    "judge_cuts",
    "calibrate",
    "cascade",
    "transfer",
    "explore",
    "economics",
    "human_eval",
    "demo",
)
"""Modules of the commands, in the order of ``connectomebench --help``."""
