"""Multiclass Brier score as a metric of the `evaluate` library."""

import datasets
import evaluate

from connectomebench.evaluation.calibration import brier_score_multiclass

_DESCRIPTION = """
Brier score over any number of classes: the mean over rows of the squared distance between the stated class
probabilities and the one-hot reference. A proper score: what does best on average is to state what one believes.
"""

_INPUTS = """
Args:
    predictions (list of lists of float): probabilities of all classes, one list a row, each summing to one.
    references (list of int): true classes, 0 to classes - 1.

Returns:
    brier_score_multiclass (float): between 0 (right and certain in every row) and 2 (wrong and certain in every row).

Example:
    >>> metric = evaluate.load("connectomebench/brier_score_multiclass")
    >>> metric.compute(predictions=[[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]], references=[0, 1])
    {'brier_score_multiclass': 0.1875}
"""

_CITATION = """
@article{brier1950verification,
  title = {Verification of Forecasts Expressed in Terms of Probability},
  author = {Brier, Glenn W.},
  journal = {Monthly Weather Review},
  volume = {78},
  number = {1},
  pages = {1--3},
  year = {1950}
}
"""


class BrierScoreMulticlass(evaluate.Metric):
    """Mean squared distance to the one-hot reference."""

    def _info(self) -> evaluate.MetricInfo:
        # references come in as floats and are checked afterwards: an integer feature would cut 0.9 to 0 in silence
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": datasets.Sequence(number), "references": number}),
            reference_urls=["https://scikit-learn.org/stable/modules/generated/sklearn.metrics.brier_score_loss.html"],
        )

    def _compute(self, *, predictions, references):
        return {"brier_score_multiclass": brier_score_multiclass(predictions, references)}
