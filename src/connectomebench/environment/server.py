"""The environment as a server for OpenEnv: each session plays an episode of its own on the same rows."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np
from openenv.core.env_server.http_server import create_app
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import Action, Observation, State
from pydantic import Field

from connectomebench.environment.episode import Episode, EpisodeConfig
from connectomebench.environment.policies import png
from connectomebench.environment.samples import Samples

if TYPE_CHECKING:
    from fastapi import FastAPI

NAME = "look_around"
SESSIONS = 16


class LookAction(Action):
    """One action."""

    name: str = Field(..., max_length=64, description="A view, such as side or zoom_in, or answer_ and a label")


class LookObservation(Observation):
    """What is seen, asked and possible."""

    picture: str = Field("", description="PNG, base64")
    question: str = Field("", description="What is asked")
    actions: list[str] = Field(default_factory=list, description="Views that change what is seen, and answers")
    views_left: int = Field(0, description="Views before the episode ends")


class LookState(State):
    """Where an episode stands; the true answer is not in it."""

    sample_id: str | None = Field(None, description="Row")
    spent: float = Field(0.0, description="Prices of all views so far")


class LookAroundServer(Environment[LookAction, LookObservation, LookState]):
    """One session.

    Parameters
    ----------
    samples
        Rows with neighbourhoods, shared by all sessions.
    config
        Prices and rewards.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, samples: Samples, config: EpisodeConfig) -> None:
        super().__init__()
        self._samples, self._config = samples, config
        self._episode: Episode | None = None
        self._id: str | None = None

    def reset(self, seed: int | None = None, episode_id: str | None = None, **kwargs: Any) -> LookObservation:
        """Begin at a row drawn by lot from ``seed``, or at that of ``sample_id``."""
        wish = kwargs.get("sample_id")
        if wish is None:
            number = int(np.random.default_rng(seed).integers(len(self._samples)))
        else:
            number = self._samples.number(str(wish))
        self._episode = Episode(self._samples.rows[number], self._samples.place(number), self._config)
        self._id = episode_id or str(uuid4())
        return self._seen(0.0)

    def step(self, action: LookAction, timeout_s: float | None = None, **kwargs: Any) -> LookObservation:
        """Look or answer; the reward is that of this action."""
        if self._episode is None:
            self.reset()
        assert self._episode is not None
        return self._seen(self._episode.step(action.name).reward)

    @property
    def state(self) -> LookState:
        """Where the episode stands."""
        episode = self._episode
        if episode is None:
            return LookState(episode_id=self._id, step_count=0, sample_id=None, spent=0.0)
        spent = -sum(one for one in episode.rewards if one < 0)
        return LookState(
            episode_id=self._id, step_count=len(episode.actions), sample_id=episode.sample.sample_id, spent=spent
        )

    def _seen(self, reward: float) -> LookObservation:
        episode = self._episode
        assert episode is not None
        return LookObservation(
            picture=b64encode(png(episode.picture)).decode(),
            question=episode.sample.question,
            actions=[] if episode.over else episode.useful(),
            views_left=self._config.max_views - episode.views,
            done=episode.over,
            reward=reward,
            metadata={
                "terminated": episode.prediction is not None,
                "truncated": episode.over and not episode.prediction,
            },
        )


def make_app(samples: Samples, config: EpisodeConfig | None = None, sessions: int = SESSIONS) -> FastAPI:
    """Make the server.

    Parameters
    ----------
    samples
        Rows with neighbourhoods.
    config
        Prices and rewards; None for the defaults.
    sessions
        Most sessions at the same time.
    """
    rules = config or EpisodeConfig()
    return create_app(
        lambda: LookAroundServer(samples, rules),
        LookAction,
        LookObservation,
        env_name=NAME,
        max_concurrent_envs=sessions,
        state_cls=LookState,
    )
