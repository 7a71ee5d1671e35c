"""Cards of datasets and models for the Hub, made from manifests, records and result records alone."""

from __future__ import annotations

from connectomebench.cards.baselines import add_baselines, baselines_entry
from connectomebench.cards.columns import COLUMNS, LABEL_RULES
from connectomebench.cards.dataset import PartitionFacts, dataset_card, partition_facts, write_card
from connectomebench.cards.model import model_card
from connectomebench.cards.reliability import calibration_figure

__all__ = [
    "COLUMNS",
    "LABEL_RULES",
    "PartitionFacts",
    "add_baselines",
    "baselines_entry",
    "calibration_figure",
    "dataset_card",
    "model_card",
    "partition_facts",
    "write_card",
]
