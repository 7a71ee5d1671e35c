"""The rules of looking around: views cost, one answer ends the episode, and the truth decides what it earns."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.neighbourhoods import Neighbourhood
from connectomebench.environment.camera import VIEW_ACTIONS, Camera, can, first_camera, moved
from connectomebench.environment.drawing import draw
from connectomebench.environment.samples import Sample

ANSWER = "answer_"


@dataclass(frozen=True)
class EpisodeConfig:
    """What views cost, what answers earn, and when it is over.

    Attributes
    ----------
    pixels
        Edge of a picture.
    view_price, slice_price
        Price of a view of meshes and of a slice of image data, in units of reward. The first view is free.
    right, wrong
        Reward of an answer.
    max_views
        After so many views beside the first, the episode ends without an answer and earns what a wrong one does.
    """

    pixels: int = 128
    view_price: float = 0.01
    slice_price: float = 0.02
    right: float = 1.0
    wrong: float = 0.0
    max_views: int = 20

    def __post_init__(self) -> None:
        if not 16 <= self.pixels <= 1024 or self.max_views < 1:
            raise ConnectomeBenchError("pixels must be from 16 to 1024, and max_views above 0")
        numbers = (self.view_price, self.slice_price, self.right, self.wrong)
        if min(self.view_price, self.slice_price) < 0 or not np.isfinite(numbers).all() or self.right < self.wrong:
            raise ConnectomeBenchError(
                "prices must not be negative, and a right answer must not earn less than a wrong"
            )


@dataclass(frozen=True)
class Step:
    """What an action gave.

    Attributes
    ----------
    picture
        uint8, shape (pixels, pixels, 3): what is seen now.
    reward
        Of this action alone.
    answered
        Whether the action was an answer, which ends the episode.
    out_of_views
        Whether the episode ends since no views are left.
    """

    picture: NDArray[np.uint8]
    reward: float
    answered: bool
    out_of_views: bool


@dataclass
class Episode:
    """One row that is looked at, from the first view to the answer.

    Attributes
    ----------
    sample
        The row.
    place
        What lies around it.
    config
        Prices and rewards.
    camera
        Where one looks from now.
    picture
        What is seen now; uint8, shape (pixels, pixels, 3).
    actions, rewards
        What was done, and what each gave.
    prediction
        The answer, once there is one.
    over
        Whether it is over.
    """

    sample: Sample
    place: Neighbourhood
    config: EpisodeConfig
    camera: Camera = field(init=False)
    picture: NDArray[np.uint8] = field(init=False, repr=False)
    actions: list[str] = field(default_factory=list, init=False)
    rewards: list[float] = field(default_factory=list, init=False)
    prediction: str | None = field(default=None, init=False)
    over: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self.camera = first_camera(self.place)
        self.picture = draw(self.place, self.camera, self.config.pixels)

    @property
    def views(self) -> int:
        """Views beside the first."""
        return len(self.actions) - (self.prediction is not None)

    @property
    def total(self) -> float:
        """Sum of all rewards."""
        return sum(self.rewards)

    @property
    def right(self) -> bool:
        """Whether the answer is the true one."""
        return self.prediction == self.sample.answer

    def useful(self) -> list[str]:
        """Return the views that differ from the one that is seen, and the answers that the row can have."""
        views = [one for one in VIEW_ACTIONS if can(one, self.camera, self.place)]
        return [*views, *(ANSWER + label for label in self.sample.labels)]

    def step(self, action: str) -> Step:
        """Do an action of :data:`VIEW_ACTIONS`, or answer with ``answer_`` and a label.

        An answer that the row cannot have is wrong. A view that changes nothing costs as much as any other.

        Raises
        ------
        ConnectomeBenchError
            If the episode is over, or there is no such action.
        """
        if self.over:
            raise ConnectomeBenchError("the episode is over; begin another one")
        if action.startswith(ANSWER):
            self.prediction, self.over = action.removeprefix(ANSWER), True
            return self._done(action, self.config.right if self.right else self.config.wrong)
        if action not in VIEW_ACTIONS:
            raise ConnectomeBenchError(f"there is no action {action[:40]!r}; choose {', '.join(VIEW_ACTIONS)}")
        before, self.camera = self.camera, moved(self.camera, action, self.place)
        if self.camera != before:
            self.picture = draw(self.place, self.camera, self.config.pixels)
        return self._done(action, -(self.config.slice_price if self.camera.plane else self.config.view_price))

    def _done(self, action: str, reward: float) -> Step:
        self.actions.append(action)
        out = self.prediction is None and self.views >= self.config.max_views
        reward += self.config.wrong if out else 0.0
        self.rewards.append(reward)
        self.over |= out
        return Step(self.picture, reward, self.prediction is not None, out)
