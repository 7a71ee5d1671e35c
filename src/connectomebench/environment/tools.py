"""The environment as tools of a language model, for ``GRPOTrainer(environment_factory=...)`` of TRL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from PIL import Image

from connectomebench.environment.episode import ANSWER, Episode, EpisodeConfig
from connectomebench.environment.samples import Samples

Content = list[dict[str, Any]]
"""Blocks of a message: ``{"type": "image", "image": ...}`` and ``{"type": "text", "text": ...}``."""


class LookAroundTools:
    """One episode that a model plays by calling tools; all public methods but reset and get_reward are tools.

    Parameters
    ----------
    samples
        Rows with neighbourhoods.
    config
        Prices and rewards; None for the defaults.
    """

    def __init__(self, samples: Samples, config: EpisodeConfig | None = None) -> None:
        self._samples = samples
        self._config = config or EpisodeConfig()
        self._episode: Episode | None = None

    def reset(self, sample_id: str, **row: Any) -> Content:
        """Begin the episode of a row.

        Parameters
        ----------
        sample_id
            Which row; other columns are not read.

        Returns
        -------
        list of dict
            The first view, and what it may cost to see more: appended to the prompt by the trainer.
        """
        number = self._samples.number(sample_id)
        self._episode = Episode(self._samples.rows[number], self._samples.place(number), self._config)
        prices = f"A view costs {self._config.view_price:g}, a slice {self._config.slice_price:g}."
        return self._seen(f"This is the view from the front. {prices} Call tools to see more, then `answer`.")

    def look(self, view: str) -> Content:
        """Look at the meshes along an axis of the volume.

        Args:
            view: front, side or top.
        """
        return self._act(view)

    def turn(self, direction: str) -> Content:
        """Turn the view of the meshes by 30 degrees.

        Args:
            direction: left, right, up or down.
        """
        return self._act(f"turn_{direction}")

    def move(self, direction: str) -> Content:
        """Move the view by a quarter of its width.

        Args:
            direction: left, right, up, down, forward or back.
        """
        return self._act(f"move_{direction}")

    def zoom(self, direction: str) -> Content:
        """Zoom by a factor of 1.5.

        Args:
            direction: in or out.
        """
        return self._act(f"zoom_{direction}")

    def slices(self, plane: str) -> Content:
        """Look at a slice of the image data through the place.

        Args:
            plane: xy, xz or yz.
        """
        return self._act(f"em_{plane}")

    def page(self, direction: str) -> Content:
        """Look at the slice before or after the one that is seen.

        Args:
            direction: next or previous.
        """
        return self._act(f"{direction}_page")

    def neighbours(self) -> Content:
        """Show the segments beside those asked about, or hide them again."""
        return self._act("neighbours")

    def answer(self, label: str) -> str:
        """Answer the question, which ends the episode.

        Args:
            label: One of the answers that the question allows, for example yes or no.
        """
        episode = self._playing()
        if label not in episode.sample.labels:
            raise ValueError(f"answer one of {', '.join(episode.sample.labels)}")
        episode.step(ANSWER + label)
        return "The episode is over."

    def get_reward(self) -> float:
        """Return what the episode earned: the answer's reward less the prices of its views.

        Without an answer it counts as wrong, so that looking for ever does not pay.
        """
        episode = self._started()
        return episode.total if episode.over else episode.total + self._config.wrong

    def _act(self, action: str) -> Content:
        episode = self._playing()
        done = episode.step(action)
        over = " No views are left; the episode is over." if done.out_of_views else ""
        return self._seen(f"Views left: {self._config.max_views - episode.views}.{over}")

    def _seen(self, text: str) -> Content:
        picture = Image.fromarray(self._started().picture)
        return [{"type": "image", "image": picture}, {"type": "text", "text": text}]

    def _playing(self) -> Episode:
        episode = self._started()
        if episode.over:
            raise ValueError("the episode is over")
        return episode

    def _started(self) -> Episode:
        if self._episode is None:
            raise ValueError("call reset first")
        return self._episode


def tools_factory(samples: Samples, config: EpisodeConfig | None = None) -> Callable[[], LookAroundTools]:
    """Return what ``environment_factory`` takes: it makes an environment without arguments.

    Parameters
    ----------
    samples, config
        Of all episodes. Rows of the training data need ``sample_id``.
    """
    return partial(LookAroundTools, samples, config)
