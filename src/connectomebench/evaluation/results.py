"""Write, read, summarise and compare result records."""

from connectomebench.evaluation.comparison import Comparison, Verdict, compare, verdict
from connectomebench.evaluation.result_records import (
    DEFAULT,
    KEYS,
    YES_NO,
    default_rows,
    label,
    read_results,
    result_path,
    result_schema,
    stated_events,
    stated_probability,
    write_results,
)
from connectomebench.evaluation.summary import METRICS, Summary, summarise

__all__ = [
    "DEFAULT",
    "KEYS",
    "METRICS",
    "YES_NO",
    "Comparison",
    "Summary",
    "Verdict",
    "compare",
    "default_rows",
    "label",
    "read_results",
    "result_path",
    "result_schema",
    "stated_events",
    "stated_probability",
    "summarise",
    "verdict",
    "write_results",
]
