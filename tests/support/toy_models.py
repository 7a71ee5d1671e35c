"""Models that know the toy segmentation, and answer from the place in the row as an oracle would."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from toy_segmentation import OFFSET, VOXEL, arrays

from connectomebench.models.base import Answer, Batch
from connectomebench.proofreading.task_models import TaskModel


def bodies_near(point_nm: list[float], reach_nm: float) -> set[int]:
    """Return the bodies within a cube round a point."""
    truth = arrays()["proofread"]
    low, high = (np.floor((np.array(point_nm) + d) / VOXEL - OFFSET).astype(int) for d in (-reach_nm, reach_nm))
    box = tuple(slice(max(a, 0), b + 1) for a, b in zip(low, high, strict=True))
    return set(np.unique(truth[box]).tolist()) - {0}


def at_the_bridge(point_nm: list[float]) -> bool:
    x, y, _ = np.array(point_nm) / VOXEL - OFFSET
    return abs(x - 60) <= 6 and 47 <= y <= 52


RULES: dict[str, Callable[[list[float]], bool]] = {
    "endpoint_error_identification": lambda at: bodies_near(at, 20) == {10},
    "merge_action": lambda at: bodies_near(at, 20) == {10},
    "merge_error_identification": lambda at: {20, 30} <= bodies_near(at, 120),
    "split_action": at_the_bridge,
}


@dataclass
class ToyModel:
    """Answers 0.97 or 0.03; counts its questions, and can cost something or die at one of them."""

    task: str
    cost_usd: float | None = None
    dies_at: int | None = None
    asked: int = 0
    name: str = "toy"
    revision: str = "1"

    def predict(self, batch: Batch) -> list[Answer]:
        answers = []
        for views, images, at in zip(batch["views"], batch["images"], batch["location_nm"], strict=True):
            assert len(views) == len(images) and all(image["bytes"].startswith(b"\x89PNG") for image in images)
            self.asked += 1
            if self.asked == self.dies_at:
                os.kill(os.getpid(), signal.SIGKILL)
            p = 0.97 if RULES[self.task](at) else 0.03
            answers.append(Answer("yes" if p > 0.5 else "no", {"no": 1 - p, "yes": p}, cost_usd=self.cost_usd))
        return answers


def toy_models(*tasks: str, cost_usd: float | None = None, dies_at: tuple[str, int] | None = None):
    """Return the models of some tasks (all by default)."""
    made = {}
    for task in tasks or RULES:
        death = dies_at[1] if dies_at and dies_at[0] == task else None
        made[task] = TaskModel(task, ToyModel(task, cost_usd, death), ())
    return made
