"""Those who look around, and how they are compared."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from endpoint_server import completion, opened, serve
from PIL import Image

from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.environment.episode import Episode, EpisodeConfig
from connectomebench.environment.measure import explore, mean_interval
from connectomebench.environment.policies import (
    ChatAgent,
    ModelPolicy,
    RandomPolicy,
    averaged,
    entropy,
    play_all,
    read_action,
)
from connectomebench.environment.recording import replay
from connectomebench.environment.samples import Samples
from connectomebench.models.base import Answer, Batch

CONFIG = EpisodeConfig(pixels=32, max_views=60)


class SeesBlue:
    """Believes yes the more, the more of the first picture is not white; surer of pictures it sees at once nearer."""

    name, revision = "sees blue", "1"

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def predict(self, batch: Batch) -> list[Answer]:
        answers = []
        for images, views in zip(batch["images"], batch["views"], strict=True):
            self.asked.append(views)
            first = np.asarray(Image.open(io.BytesIO(images[0]["bytes"])))
            p = float(np.clip((first.min(axis=2) < 200).mean() * 1.6, 0.05, 0.95))
            answers.append(Answer("yes" if p > 0.5 else "no", {"no": 1 - p, "yes": p}))
        return answers


def test_fixed_views_are_those_of_the_row_and_rounds_follow(samples: Samples):
    model = SeesBlue()
    records, beliefs = play_all(samples, ModelPolicy(model), CONFIG)
    views = ["side", "top", "em_xy", "em_xz", "em_yz"]
    assert [list(one.actions[:-1]) for one in records] == [views] * len(samples)
    assert all(asked == ["front", *views] for asked in model.asked) and len(model.asked) == len(samples)
    for record, believed in zip(records, beliefs, strict=True):
        assert record.actions[-1] == "answer_" + max(believed, key=believed.__getitem__)
        assert sum(record.rewards[:-1]) == pytest.approx(-(2 * 0.01 + 3 * 0.02))
        replay(record, samples)
    more, _ = play_all(samples, ModelPolicy(model, "always"), CONFIG)
    assert all(one.actions.count("zoom_in") == one.actions.count("zoom_out") == 2 for one in more)
    assert all(one.actions[:5] == tuple(views) and "turn_right" in one.actions for one in more)
    with pytest.raises(ConnectomeBenchError, match="too few"):
        play_all(samples, ModelPolicy(model), EpisodeConfig(pixels=32, max_views=4))


def test_greedy_stops_where_views_cost_more_than_being_wrong(samples: Samples):
    dear = EpisodeConfig(pixels=32, max_views=60, view_price=0.3, slice_price=0.3)
    assert {len(one.actions) for one in play_all(samples, ModelPolicy(SeesBlue(), "greedy"), dear)[0]} == {6}
    free = EpisodeConfig(pixels=32, max_views=60, view_price=0.0, slice_price=0.0)
    greedy, always = (play_all(samples, ModelPolicy(SeesBlue(), how), free)[0] for how in ("greedy", "always"))
    assert [one.prediction for one in greedy] == [one.prediction for one in always]


def test_beliefs_are_averaged_as_logarithms():
    assert averaged([{"no": 0.5, "yes": 0.5}]) == pytest.approx({"no": 0.5, "yes": 0.5})
    both = averaged([{"no": 0.1, "yes": 0.9}, {"no": 0.5, "yes": 0.5}])
    assert both["yes"] / both["no"] == pytest.approx(3)
    assert entropy({"no": 0.5, "yes": 0.5}) == 1 and entropy({"no": 0.0, "yes": 1.0}) == 0


def test_comparison_counts_what_was_played(samples: Samples, tmp_path: Path):
    policies = [RandomPolicy(3), *(ModelPolicy(SeesBlue(), how) for how in ("never", "always", "greedy"))]
    found = explore(samples, policies, CONFIG, unsure_below=1.0)
    assert [one.policy for one in found.scores] == ["random", "fixed views", "all views", "greedy"]
    for score in found.scores:
        own = [one for one in found.episodes if one.policy == score.policy]
        assert score.accuracy.value == pytest.approx(np.mean([one.prediction == one.answer for one in own]))
        assert score.reward.value == pytest.approx(np.mean([sum(one.rewards) for one in own]))
        assert score.accuracy.n_groups == len({row.group for row in samples.rows})
    more = found.more[0]
    assert more.accuracy is not None and more.rows == len(samples) and more.extra_views > 0
    gained = found.scores[2].accuracy.value - found.scores[1].accuracy.value
    assert more.accuracy.value == pytest.approx(gained) and more.worth_a_view == pytest.approx(
        gained / more.extra_views
    )
    # where nothing is unsure, nothing is claimed
    assert explore(samples, policies[1:3], CONFIG, unsure_below=0.01).more[0].accuracy is None
    json.dumps(found.summary(), allow_nan=False)
    spread = mean_interval(np.array([0.0, 1.0, 0.0, 1.0]), list("abcd"))
    assert spread.value == 0.5 and spread.lower < 0.2 and spread.upper > 0.8


def test_an_agent_talks_to_a_server(samples: Samples):
    with serve() as server:
        agent = ChatAgent(opened(server))
        episodes = [["I look.", "zoom_in", "It goes on: answer_yes"], ["side", "<answer>no</answer>"], ["?", "??"]]
        config = EpisodeConfig(pixels=32)
        for said, actions in zip(
            episodes, [("zoom_in", "answer_yes"), ("side", "answer_no"), ("answer_",)], strict=True
        ):
            server.next.extend(completion(text) for text in said)
            from connectomebench.environment.recording import Recorder

            follow = Recorder(Episode(samples.rows[0], samples.place(0), config))
            agent.play(follow)
            assert tuple(follow.episode.actions) == actions
        pictures = json.dumps(server.asked()[2]).count("data:image/png;base64")
    assert pictures == 2  # the first view, and the one it asked for
    assert follow.episode.prediction == "" and not follow.episode.right


def test_actions_are_read_from_replies(samples: Samples):
    episode = Episode(samples.rows[0], samples.place(0), EpisodeConfig(pixels=32))
    assert read_action("I could zoom_in, but I turn_left.", episode) == "turn_left"
    assert read_action("<answer> yes </answer> after zoom_in", episode) == "answer_yes"
    assert read_action("answer_maybe", episode) is None


def test_the_command_plays_and_plays_again(surveyed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    words = ["explore", str(surveyed), "--species", "fly", "--pixels", "32"]
    assert main([*words, "--policy", "random", "--out", str(tmp_path)]) == 0
    assert "random" in capsys.readouterr().out
    assert json.loads((tmp_path / "summary.json").read_text())["policies"][0]["accuracy"]["n"] == 4
    assert main([*words, "--replay", str(tmp_path / "episodes.jsonl")]) == 0
    assert "4 episodes came out the same" in capsys.readouterr().out
    assert main([*words, "--policy", "greedy"]) == 2
    assert "--model" in capsys.readouterr().err
