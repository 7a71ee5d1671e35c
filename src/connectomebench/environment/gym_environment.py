"""The environment for Gymnasium: look around at the place of a row, then answer."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from connectomebench.core.tasks import EM_VIEWS
from connectomebench.environment.camera import CLOSEST, VIEW_ACTIONS
from connectomebench.environment.episode import ANSWER, Episode, EpisodeConfig
from connectomebench.environment.recording import EpisodeRecord, Recorder
from connectomebench.environment.samples import Samples

STATE_SIZE = 3 + 1 + 9 + 3 + 3


class LookAround(gymnasium.Env[dict[str, NDArray[Any]], np.int64]):
    """Look around at a place, each view at its price, and answer once.

    An action is a number of :attr:`actions`. What is seen is ``picture``, uint8, shape (pixels, pixels, 3), and
    ``state``, float32, shape (19,), all from -1 to 1: offset of the centre (x, y, z) in halves of the known cube; zoom,
    1 nearest; right, down and forward; the plane of slices, one of three or none; page, whether neighbours are shown,
    and the share of views that is left. ``info`` names the row and its question; ``useful`` marks actions that change
    what is seen, and answers that the row can have.

    Parameters
    ----------
    samples
        Rows with neighbourhoods.
    config
        Prices and rewards; None for the defaults.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - as Gymnasium declares it

    def __init__(self, samples: Samples, config: EpisodeConfig | None = None, render_mode: str | None = None) -> None:
        self.samples = samples
        self.config = config or EpisodeConfig()
        self.render_mode = render_mode
        self.actions: tuple[str, ...] = (*VIEW_ACTIONS, *(ANSWER + label for label in samples.labels))
        self.action_space = spaces.Discrete(len(self.actions))
        pixels = self.config.pixels
        seen: Any = spaces.Dict(
            {
                "picture": spaces.Box(0, 255, (pixels, pixels, 3), np.uint8),
                "state": spaces.Box(-1, 1, (STATE_SIZE,), np.float32),
            }
        )
        self.observation_space = seen
        self._recorder: Recorder | None = None

    @property
    def episode(self) -> Episode:
        """The episode that is played; the environment must have been reset."""
        if self._recorder is None:
            raise gymnasium.error.ResetNeeded("call reset() first")
        return self._recorder.episode

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Begin at a row drawn by lot, or at that of ``options={"sample_id": ...}``."""
        super().reset(seed=seed)
        wish = (options or {}).get("sample_id")
        number = int(self.np_random.integers(len(self.samples))) if wish is None else self.samples.number(str(wish))
        episode = Episode(self.samples.rows[number], self.samples.place(number), self.config)
        self._recorder = Recorder(episode)
        return self._seen(), self._info()

    def step(self, action: np.int64) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Look or answer; see the class for what comes back."""
        episode = self.episode
        done = episode.step(self.actions[int(action)])
        assert self._recorder is not None
        self._recorder.saw()
        return self._seen(), done.reward, done.answered, done.out_of_views, self._info()

    def render(self) -> NDArray[np.uint8] | None:  # type: ignore[override]
        """Return what is seen now, uint8, shape (pixels, pixels, 3)."""
        return self.episode.picture.copy() if self.render_mode == "rgb_array" else None

    def record(self, policy: str) -> EpisodeRecord:
        """Return the episode as it can be kept and played again; ``policy`` names who looked."""
        if self._recorder is None:
            raise gymnasium.error.ResetNeeded("call reset() first")
        return self._recorder.record(self.samples, policy)

    def _seen(self) -> dict[str, NDArray[Any]]:
        episode = self.episode
        return {"picture": episode.picture.copy(), "state": state_of(episode)}

    def _info(self) -> dict[str, Any]:
        episode = self.episode
        useful = set(episode.useful())
        return {
            "sample_id": episode.sample.sample_id,
            "question": episode.sample.question,
            "views": episode.views,
            "spent": -sum(one for one in episode.rewards if one < 0),
            "useful": np.array([name in useful for name in self.actions], np.int8),
        }


def state_of(episode: Episode) -> NDArray[np.float32]:
    """Describe the camera of an episode; see :class:`LookAround`."""
    camera, place = episode.camera, episode.place
    nearest, widest = np.log(place.extent_nm / CLOSEST), np.log(place.reach_nm)
    zoom = 1 - 2 * (np.log(camera.extent_nm) - nearest) / (widest - nearest)
    middle = place.pages // 2
    numbers = [
        *(2 * c / place.reach_nm for c in camera.offset_nm),
        zoom,
        *camera.frame,
        *(float(camera.plane == view) for view in EM_VIEWS),
        (camera.page - middle) / middle if middle else 0.0,
        float(camera.neighbours),
        1 - episode.views / episode.config.max_views,
    ]
    return np.clip(np.array(numbers, np.float32), -1, 1)
