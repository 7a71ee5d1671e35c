"""Expected and maximum calibration error as a metric of the `evaluate` library."""

import datasets
import evaluate

from connectomebench.evaluation.calibration import Scheme, expected_calibration_error, maximum_calibration_error

_DESCRIPTION = """
Calibration error: how far stated probabilities are from what comes true. Rows are binned by probability; the gap of a
bin is the distance between its mean probability and the share of its rows that came true. The expected calibration
error (ECE) is the mean gap over rows, the maximum calibration error (MCE) the largest gap.
"""

_INPUTS = """
Args:
    predictions: P(yes) of each row (list of float), or the probabilities of all classes of each row (list of lists of
        float). With P(yes), a bin compares the mean P(yes) with the share of rows whose reference is 1. With class
        probabilities, it compares the mean of the largest probability with the share of rows whose most probable class
        is the reference (top-label calibration).
    references (list of int): true classes, 0 or 1, or 0 to classes - 1.
    bins (int, default 15): number of bins.
    scheme (str, default "equal_width"): "equal_width", or "equal_mass" for bins that hold equally many rows.

Returns:
    ece (float): expected calibration error, between 0 and 1.
    mce (float): maximum calibration error, between 0 and 1.

Example:
    >>> metric = evaluate.load("connectomebench/calibration_error")
    >>> metric.compute(predictions=[0.25, 0.25, 0.75, 0.75], references=[0, 0, 1, 0], bins=2)
    {'ece': 0.25, 'mce': 0.25}
"""

_CITATION = """
@inproceedings{guo2017calibration,
  title = {On Calibration of Modern Neural Networks},
  author = {Guo, Chuan and Pleiss, Geoff and Sun, Yu and Weinberger, Kilian Q.},
  booktitle = {Proceedings of the 34th International Conference on Machine Learning},
  year = {2017}
}
"""


class CalibrationError(evaluate.Metric):
    """ECE and MCE, binary or top-label."""

    def _info(self) -> evaluate.MetricInfo:
        # references come in as floats and are checked afterwards: an integer feature would cut 0.9 to 0 in silence
        number = datasets.Value("float64")
        stated = (number, datasets.Sequence(number))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[datasets.Features({"predictions": kind, "references": number}) for kind in stated],
            reference_urls=["https://arxiv.org/abs/1706.04599"],
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Add rows; at least one, since the first determines their type."""
        if predictions is not None and len(predictions) == 0:
            raise ValueError("there are no rows; give at least one prediction with its reference")
        return super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, *, predictions, references, bins=15, scheme: Scheme = "equal_width"):
        return {
            "ece": expected_calibration_error(predictions, references, bins, scheme),
            "mce": maximum_calibration_error(predictions, references, bins, scheme),
        }
