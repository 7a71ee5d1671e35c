"""Keep episodes as lines of JSON, and play them again: the same pictures to the byte, and the same rewards."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import write_text
from connectomebench.environment.episode import Episode, EpisodeConfig
from connectomebench.environment.samples import Samples

FORMAT = 1
_MOST_BYTES = 256_000_000


@dataclass(frozen=True)
class EpisodeRecord:
    """What happened in one episode.

    Attributes
    ----------
    dataset
        Fingerprint of the dataset.
    sample_id, policy
        Which row, and who looked.
    config
        Prices and rewards.
    actions, rewards
        What was done, and what each gave.
    pictures
        SHA-256 of each picture, the first one included.
    prediction, answer
        What was answered (None where views ran out) and what is true.
    """

    dataset: str
    sample_id: str
    policy: str
    config: EpisodeConfig
    actions: tuple[str, ...]
    rewards: tuple[float, ...]
    pictures: tuple[str, ...]
    prediction: str | None
    answer: str


class Recorder:
    """Follow an episode as it is played.

    Parameters
    ----------
    episode
        Just begun.
    """

    def __init__(self, episode: Episode) -> None:
        self.episode = episode
        self._pictures = [_digest(episode.picture)]

    def saw(self) -> None:
        """Note the picture after an action."""
        self._pictures.append(_digest(self.episode.picture))

    def record(self, samples: Samples, policy: str) -> EpisodeRecord:
        """Return what happened so far."""
        one = self.episode
        return EpisodeRecord(
            samples.data.fingerprint, one.sample.sample_id, policy, one.config, tuple(one.actions),
            tuple(one.rewards), tuple(self._pictures), one.prediction, one.sample.answer,
        )  # fmt: skip


def _digest(picture: NDArray[np.uint8]) -> str:
    return sha256(np.ascontiguousarray(picture).data).hexdigest()


def write_episodes(path: Path, records: Iterable[EpisodeRecord]) -> None:
    """Write episodes, one a line; the same episodes give the same bytes."""
    lines = [json.dumps({"format": FORMAT, **asdict(one)}, separators=(",", ":")) for one in records]
    write_text(path, "".join(line + "\n" for line in lines))


def read_episodes(path: Path) -> Iterator[EpisodeRecord]:
    """Read episodes of :func:`write_episodes`.

    Raises
    ------
    ConnectomeBenchError
        If the file cannot be read, or a line is no episode.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ConnectomeBenchError(f"{path} is larger than {_MOST_BYTES} bytes; divide it")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConnectomeBenchError(f"cannot read {path}: {error}; name a file of episodes") from None
    for number, line in enumerate(lines, 1):
        try:
            yield _parse(json.loads(line))
        except (KeyError, TypeError, ValueError, RecursionError, ConnectomeBenchError):
            raise ConnectomeBenchError(f"{path}, line {number}: this is no episode; record it again") from None


def _parse(line: dict[str, Any]) -> EpisodeRecord:
    prediction = line["prediction"]
    if line["format"] != FORMAT or not (prediction is None or isinstance(prediction, str)):
        raise ValueError("another format")
    texts = {name: tuple(map(str, line[name])) for name in ("actions", "pictures")}
    if len(line["rewards"]) != len(texts["actions"]) or len(texts["pictures"]) != len(texts["actions"]) + 1:
        raise ValueError("lengths differ")
    return EpisodeRecord(
        str(line["dataset"]), str(line["sample_id"]), str(line["policy"]), EpisodeConfig(**line["config"]),
        texts["actions"], tuple(map(float, line["rewards"])), texts["pictures"], prediction, str(line["answer"]),
    )  # fmt: skip


def replay(record: EpisodeRecord, samples: Samples) -> Episode:
    """Play an episode again.

    Raises
    ------
    ConnectomeBenchError
        If it is of another dataset, or anything that was seen or earned differs.
    """
    where = f"episode of {record.sample_id[:40]}"
    if record.dataset != samples.data.fingerprint:
        raise ConnectomeBenchError(f"{where}: it was recorded on another dataset; name that one")
    number = samples.number(record.sample_id)
    episode = Episode(samples.rows[number], samples.place(number), record.config)
    follower = Recorder(episode)
    for action in record.actions:
        episode.step(action)
        follower.saw()
    if (again := follower.record(samples, record.policy)) != record:
        first = next(
            (i for i, pair in enumerate(zip(again.pictures, record.pictures, strict=True)) if len({*pair}) > 1), 0
        )
        raise ConnectomeBenchError(f"{where}: it does not come out the same (picture {first}); record it again")
    return episode
