"""Result records and what follows from them, in one place: written, read, summarised and compared."""

from connectomebench.evaluation.comparison import Comparison, Verdict, compare, verdict
from connectomebench.evaluation.result_records import (
    DEFAULT,
    KEYS,
    YES_NO,
    as_it_stands,
    label,
    read_results,
    result_path,
    result_schema,
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
    "as_it_stands",
    "compare",
    "label",
    "read_results",
    "result_path",
    "result_schema",
    "summarise",
    "verdict",
    "write_results",
]
