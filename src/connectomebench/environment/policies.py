"""Who looks around: by lot, three views and a model, a model as long as it is unsure, a model that talks."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS
from connectomebench.environment.camera import VIEW_ACTIONS
from connectomebench.environment.episode import ANSWER, Episode
from connectomebench.environment.recording import EpisodeRecord, Recorder
from connectomebench.environment.samples import Samples
from connectomebench.models.base import Model
from connectomebench.models.chat import ChatModel, Conversation, Sampling

ROUNDS: dict[str, tuple[str, str]] = {"nearer": ("zoom_in", "zoom_out"), "wider": ("zoom_out", "zoom_in")}
"""Views of the row once more, after an action that is undone afterwards; :data:`TURNED` is one more of them."""
TURNED = "turned"
FIRST = "row"
_LEAST = 1e-6


class Policy(Protocol):
    """Plays episodes to their end."""

    @property
    def name(self) -> str:
        """Name in records."""
        ...

    def play(self, follow: Recorder) -> dict[str, float]:
        """Play one episode to its end; return P of each answer as it was believed last, empty if nothing is known."""
        ...


def play_all(samples: Samples, policy: Policy, config: Any) -> tuple[list[EpisodeRecord], list[dict[str, float]]]:
    """Play one episode a row, in stored order; return what happened, and what was believed last."""
    records, beliefs = [], []
    for number, row in enumerate(samples.rows):
        follow = Recorder(Episode(row, samples.place(number), config))
        beliefs.append(policy.play(follow))
        records.append(follow.record(samples, policy.name))
    return records, beliefs


def act(follow: Recorder, action: str) -> None:
    """Do an action and note the picture; nothing where the episode is over."""
    if not follow.episode.over:
        follow.episode.step(action)
        follow.saw()


class RandomPolicy:
    """Take a few views by lot, then answer by lot.

    Parameters
    ----------
    seed
        Of all draws.
    views
        Views beside the first.
    """

    name = "random"

    def __init__(self, seed: int = 0, views: int = 2) -> None:
        self._rng = np.random.default_rng(seed)
        self._views = views

    def play(self, follow: Recorder) -> dict[str, float]:
        """See :class:`Policy`."""
        labels = follow.episode.sample.labels
        for _ in range(self._views):
            act(follow, str(self._rng.choice([one for one in follow.episode.useful() if one in VIEW_ACTIONS])))
        act(follow, ANSWER + str(self._rng.choice(labels)))
        return dict.fromkeys(labels, 1 / len(labels))


class ModelPolicy:
    """Take the views of the row, ask a model of rows, and look more as far as that is asked for.

    More views come in rounds: the views of the row nearer, wider, and turned by 30 degrees. The model sees one round at
    a time; logarithms of its probabilities are averaged over the rounds.

    Parameters
    ----------
    model
        Answers rows with these views, with probabilities.
    more
        ``never``: answer after the views of the row. ``always``: take all rounds. ``greedy``: go on while being wrong
        would cost more than the next round, with the round first that took most doubt away so far, in bits a view.
    """

    def __init__(self, model: Model, more: str = "never") -> None:
        if more not in ("never", "always", "greedy"):
            raise ValueError(f"more must be never, always or greedy, not {more!r}")
        self._model, self._more = model, more
        self.name = {"never": "fixed views", "always": "all views", "greedy": "greedy"}[more]
        self._gained: dict[str, list[float]] = {}

    def play(self, follow: Recorder) -> dict[str, float]:
        """See :class:`Policy`."""
        beliefs = [self._believed(follow, FIRST)]
        left = [*ROUNDS, TURNED] if self._more != "never" else []
        while left and not follow.episode.over:
            together = averaged(beliefs)
            chosen = max(left, key=self._promise) if self._more == "greedy" else left[0]
            if self._more == "greedy" and self._price(follow.episode, chosen) >= self._at_stake(
                follow.episode, together
            ):
                break
            left.remove(chosen)
            before = follow.episode.views
            found = self._believed(follow, chosen)
            if not found:
                break
            beliefs.append(found)
            bits = entropy(together) - entropy(averaged(beliefs))
            self._gained.setdefault(chosen, []).append(bits / (follow.episode.views - before))
        together = averaged(beliefs)
        # nothing where views ran out: that counts as wrong
        act(follow, ANSWER + max(sorted(together), key=together.__getitem__))
        return together

    def _promise(self, name: str) -> float:
        """Bits a view that a round gave on average so far; one that was never tried comes first."""
        seen = self._gained.get(name)
        return float(np.mean(seen)) if seen else np.inf

    def _price(self, episode: Episode, name: str) -> float:
        """Add up what a round costs, what comes between its pictures included."""
        config, views = episode.config, self._views(episode)
        slices = sum(view in EM_VIEWS for view in views)
        between = [slices > 0, False] if name in ROUNDS else [False] * len(MESH_VIEWS) + [True] * 2 * (slices > 0)
        paid = [*(view in EM_VIEWS for view in views), *between]
        return sum(config.slice_price if one else config.view_price for one in paid)

    def _at_stake(self, episode: Episode, believed: dict[str, float]) -> float:
        """Return what full knowledge would be worth: the chance of being wrong times what that costs."""
        return (1 - max(believed.values())) * (episode.config.right - episode.config.wrong)

    @staticmethod
    def _views(episode: Episode) -> tuple[str, ...]:
        return MESH_VIEWS + EM_VIEWS if episode.sample.shows_em and episode.place.pages else MESH_VIEWS

    def _believed(self, follow: Recorder, name: str) -> dict[str, float]:
        """Take the pictures of a round and ask the model; empty where views ran out before the end."""
        episode, views = follow.episode, self._views(follow.episode)
        pictures: dict[str, NDArray[np.uint8]] = {}
        setup, undo = ROUNDS.get(name, ("", ""))
        if name == FIRST:
            pictures[views[0]] = episode.picture
        for number, view in enumerate(views):
            if view in pictures:
                continue
            act(follow, view)
            if setup and number == 0:
                act(follow, setup)
            if name == TURNED and view in MESH_VIEWS:
                act(follow, "turn_right")
            if name == TURNED and view == EM_VIEWS[0]:
                act(follow, "next_page")
            pictures[view] = episode.picture
        if undo or (name == TURNED and episode.camera.plane):
            act(follow, undo or "previous_page")
        if episode.over and name == FIRST:
            raise ConnectomeBenchError(f"max_views is {episode.config.max_views}, too few for the views of a row")
        if episode.over:
            return {}
        batch = {
            "images": [[{"bytes": png(pictures[view]), "path": None} for view in views]],
            "views": [list(views)],
            "question": [episode.sample.question],
            "task": [episode.sample.task],
        }
        (answer,) = self._model.predict(batch)
        probabilities = {label: answer.probabilities.get(label, 0.0) for label in episode.sample.labels}
        if not sum(probabilities.values()):
            probabilities = {label: float(label == answer.prediction) for label in episode.sample.labels}
        return _normalised(probabilities)


class ChatAgent:
    """A vision-language model that sees one picture a turn and names an action or answers.

    Parameters
    ----------
    model
        Any chat model, for example :func:`connectomebench.models.endpoint.open_endpoint`.
    sampling
        Temperature and length of replies.
    patience
        After so many replies in a row that name no action, the episode ends with an answer that is wrong.
    """

    def __init__(self, model: ChatModel, sampling: Sampling | None = None, patience: int = 2) -> None:
        self._model, self._patience = model, patience
        self._sampling = sampling or Sampling(max_new_tokens=64)
        self.name = f"agent {model.name}"

    def play(self, follow: Recorder) -> dict[str, float]:
        """See :class:`Policy`."""
        episode = follow.episode
        turns = [_turn(instructions(episode))]
        pictures = [Image.fromarray(episode.picture)]
        unreadable = 0
        while not episode.over:
            (reply,) = self._model.reply([Conversation(turns, pictures)], self._sampling)
            action = read_action(reply.text, episode) if reply.whole else None
            if action is None:
                unreadable += 1
                if unreadable >= self._patience:
                    act(follow, ANSWER)
                answer: list[dict[str, Any]] = [{"type": "text", "text": "Name one action of the list."}]
                turns = [*turns, _said(reply.text), {"role": "user", "content": answer}]
                continue
            unreadable = 0
            act(follow, action)
            turns = [*turns, _said(reply.text), _turn(f"Views left: {left(episode)}.")]
            pictures = [*pictures, Image.fromarray(episode.picture)]
        return {}


def instructions(episode: Episode) -> str:
    """Say what is asked, which actions there are, and what they cost."""
    config = episode.config
    answers = ", ".join(ANSWER + label for label in episode.sample.labels)
    return (
        f"{episode.sample.question}\n\nYou see one view at a time, the first from the front. To look around, reply "
        f"with one action: {', '.join(VIEW_ACTIONS)}. A view costs {config.view_price:g}, "
        f"a slice {config.slice_price:g}; a right answer earns {config.right:g}, a wrong one {config.wrong:g}. "
        f"At most {config.max_views} views. "
        f"To answer, reply with {answers}."
    )


def left(episode: Episode) -> int:
    """Count the views that an episode has left."""
    return episode.config.max_views - episode.views


def read_action(text: str, episode: Episode) -> str | None:
    """Read the last action that a reply names; None where it names none. ``<answer>yes</answer>`` is an answer too."""
    stated = re.findall(r"<answer>\s*(\w+)\s*</answer>", text)
    if stated and stated[-1] in episode.sample.labels:
        return ANSWER + stated[-1]
    known = {*VIEW_ACTIONS, *(ANSWER + label for label in episode.sample.labels)}
    named = [word for word in re.findall(r"\w+", text) if word in known]
    return named[-1] if named else None


def _turn(text: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]}


def _said(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": "text", "text": text}]}


def averaged(beliefs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Average the logarithms of probabilities, and scale them to a sum of 1."""
    mean = {label: np.mean([np.log(max(one[label], _LEAST)) for one in beliefs]) for label in beliefs[0]}
    return _normalised({label: float(np.exp(value)) for label, value in mean.items()})


def entropy(believed: dict[str, float]) -> float:
    """Return the doubt in probabilities, bits."""
    return float(-sum(p * np.log2(p) for p in believed.values() if p > 0))


def _normalised(values: dict[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return (
        {label: value / total for label, value in values.items()} if total else dict.fromkeys(values, 1 / len(values))
    )


def png(picture: NDArray[np.uint8]) -> bytes:
    """Encode a picture as rows store it."""
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG", compress_level=1)
    return stream.getvalue()
