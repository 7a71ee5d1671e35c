"""Overlap of masks of the two parts of a split, as a metric of the `evaluate` library."""

import datasets
import evaluate

from connectomebench.evaluation.mask_scores import mean_scores, score_texts

_DESCRIPTION = """
Overlap of predicted and true masks of the part that a split takes away, in the views of a row: mean intersection over
union of both parts in the better of their two namings, and intersection over union and Dice of the part taken away.
"""

_INPUTS = """
Args:
    predictions (list of str): masks of every view of a row, "VIEW=PNG;VIEW=PNG" with grey PNG files in base64; 255 is
        taken away, 127 stays, 0 is background. An empty text stands for no answer and scores 0.
    references (list of str): the true masks.

Returns:
    miou (float): mean intersection over union of both parts over the pixels of all views, one naming for a row.
    miou_per_view (float): the mean over views with a naming for each, as ConnectomeBench2 scores.
    iou, dice (float): overlap of the part taken away over the pixels of all views.
    iou_front, iou_side, iou_top (float): by view; NaN where no row has the part there.

Example:
    >>> metric = evaluate.load("connectomebench/mask_iou")
    >>> metric.compute(predictions=results["prediction"], references=results["answer"])["miou"]
"""

_CITATION = """
@article{brown2026connectomebench2,
  title = {ConnectomeBench2: A Unified Benchmark for Automated Connectomic Proofreading},
  author = {Brown, Jeff and Farkas, Tim and Razgar, Gleb and Boyden, Edward S.},
  journal = {arXiv:2606.21116},
  year = {2026}
}
"""


class MaskIoU(evaluate.Metric):
    """Overlap of the two parts of a split."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": text, "references": text}),
            reference_urls=["https://arxiv.org/abs/2606.21116"],
        )

    def _compute(self, *, predictions, references):
        return mean_scores(score_texts(predictions, references))
