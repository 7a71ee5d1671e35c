"""Cards of datasets and models for the Hub, made from manifests, records and result records alone."""

from __future__ import annotations

from connectomebench.cards.baselines import add_baselines, baselines_entry
from connectomebench.cards.columns import COLUMNS, LABEL_RULES
from connectomebench.cards.dataset import dataset_card, write_card
from connectomebench.cards.model import model_card
from connectomebench.cards.reliability import calibration_figure

__all__ = [
    "COLUMNS",
    "LABEL_RULES",
    "add_baselines",
    "baselines_entry",
    "calibration_figure",
    "dataset_card",
    "model_card",
    "write_card",
]
