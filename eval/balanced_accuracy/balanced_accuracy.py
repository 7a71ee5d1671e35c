"""Balanced accuracy as a metric of the `evaluate` library."""

import datasets
import evaluate

from connectomebench.evaluation.statistics import balanced_accuracy

_DESCRIPTION = """
Balanced accuracy: the mean, over the classes that occur among the references, of the share of their rows that were
predicted right. A model that always gives the same answer scores 1 / classes, however lopsided the classes are.
"""

_INPUTS = """
Args:
    predictions (list of int or of str): predicted classes.
    references (list of int or of str): true classes.
    sample_weight (list of float, optional): weight of each row.
    adjusted (bool, default False): rescale so that chance is 0 and a perfect prediction stays 1.

Returns:
    balanced_accuracy (float): between 0 and 1; with adjusted=True between 1 / (1 - classes) and 1.

Example:
    >>> metric = evaluate.load("connectomebench/balanced_accuracy")
    >>> metric.compute(predictions=[1, 1, 0, 1, 1], references=[1, 1, 1, 0, 1])
    {'balanced_accuracy': 0.375}
"""

_CITATION = """
@inproceedings{brodersen2010balanced,
  title = {The balanced accuracy and its posterior distribution},
  author = {Brodersen, Kay H. and Ong, Cheng Soon and Stephan, Klaas E. and Buhmann, Joachim M.},
  booktitle = {Proceedings of the 20th International Conference on Pattern Recognition},
  pages = {3121--3124},
  year = {2010}
}
"""


class BalancedAccuracy(evaluate.Metric):
    """Mean recall over classes."""

    def _info(self) -> evaluate.MetricInfo:
        # numbers come in as floats and are checked afterwards: an integer feature would round probabilities in silence
        kinds = (datasets.Value("float64"), datasets.Value("string"))
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[datasets.Features({"predictions": kind, "references": kind}) for kind in kinds],
            reference_urls=[
                "https://scikit-learn.org/stable/modules/generated/sklearn.metrics.balanced_accuracy_score.html"
            ],
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Add rows; at least one, since the first determines their type."""
        if predictions is not None and len(predictions) == 0:
            raise ValueError("there are no rows; give at least one prediction with its reference")
        return super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, *, predictions, references, sample_weight=None, adjusted=False):
        return {"balanced_accuracy": balanced_accuracy(predictions, references, sample_weight, adjusted)}
