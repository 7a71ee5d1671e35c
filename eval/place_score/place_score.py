"""The score of places and cuts as a metric of the `evaluate` library."""

import datasets
import evaluate

from connectomebench.evaluation.place_metrics import mean_place_score

_DESCRIPTION = """
Score of answers that are places in a volume: full credit within 500 nm of the truth, none from 2000 nm on, linear
between them, on a smaller scale in views below 5 µm. The places on both sides of a cut are assigned to the true ones so
that the score is largest; which side is called source is no matter.
"""

_INPUTS = """
Args:
    predictions (list of str): answers: "x, y, z" in nm, "node n", or "sources=[(x, y, z)];sinks=[node n]"; anything
        else, for example an empty string, scores 0.
    references (list of str, or list of lists of str): a right answer of each row in the same form, or all of them.
    questions (list of str, optional): questions that list the nodes, where answers name nodes.
    extent_nm (list of float, optional): edge of each view in nm; 5000 or more where left out.
    sample_weight (list of float, optional): weight of each row.

Returns:
    place_score (float): mean score, between 0 and 1.
    hit_rate (float): share of the answers with full credit.

Example:
    >>> metric = evaluate.load("connectomebench/place_score")
    >>> metric.compute(predictions=["0, 0, 0", "1250, 0, 0"], references=["0, 0, 0", "0, 0, 0"])
    {'place_score': 0.75, 'hit_rate': 0.5}
"""

_CITATION = """
@article{kuhn1955hungarian,
  title = {The Hungarian method for the assignment problem},
  author = {Kuhn, Harold W.},
  journal = {Naval Research Logistics Quarterly},
  volume = {2},
  pages = {83--97},
  year = {1955}
}
"""


class PlaceScore(evaluate.Metric):
    """Mean credit of places under the best assignment."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=[
                datasets.Features({"predictions": text, "references": text}),
                datasets.Features({"predictions": text, "references": datasets.Sequence(text)}),
            ],
            reference_urls=[
                "https://docs.scipy.org/doc/scipy/reference/generated/scipy.optimize.linear_sum_assignment.html"
            ],
        )

    def add_batch(self, *, predictions=None, references=None, **kwargs):
        """Add rows; at least one, since the first determines their type."""
        if predictions is not None and len(predictions) == 0:
            raise ValueError("there are no rows; give at least one prediction with its reference")
        return super().add_batch(predictions=predictions, references=references, **kwargs)

    def _compute(self, *, predictions, references, questions=None, extent_nm=None, sample_weight=None):
        scores = mean_place_score(predictions, references, questions, extent_nm, sample_weight)
        return {"place_score": scores.place_score, "hit_rate": scores.hit_rate}
