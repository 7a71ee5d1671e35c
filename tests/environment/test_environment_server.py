"""The environment on a server, with several sessions at once, and as tools of a language model."""

from __future__ import annotations

import base64
import inspect
import io
import json
from pathlib import Path

import numpy as np
import pytest
from endpoint_server import running
from PIL import Image

from connectomebench.environment.episode import Episode, EpisodeConfig
from connectomebench.environment.samples import Samples
from connectomebench.environment.tools import LookAroundTools, tools_factory

CONFIG = EpisodeConfig(pixels=32, max_views=3)
SPACE = Path(__file__).parents[2] / "spaces" / "environment"


def test_sessions_do_not_touch_each_other(samples: Samples):
    pytest.importorskip("openenv", reason="needs openenv")
    from connectomebench.environment.client import LookAroundClient
    from connectomebench.environment.server import LookAction, make_app

    rows = samples.rows
    with running(make_app(samples, CONFIG, sessions=2)) as port:
        address = f"http://127.0.0.1:{port}"
        with LookAroundClient(base_url=address).sync() as one, LookAroundClient(base_url=address).sync() as two:
            first = one.reset(sample_id=rows[0].sample_id).observation
            other = two.reset(sample_id=rows[1].sample_id).observation
            assert first.question == rows[0].question and first.picture != other.picture and not first.done
            assert "side" in first.actions and "front" not in first.actions and "answer_yes" in first.actions
            seen = one.step(LookAction(name="side"))
            again = Episode(rows[0], samples.place(0), CONFIG)
            again.step("side")
            picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(seen.observation.picture))))
            assert np.array_equal(picture, again.picture) and seen.reward == pytest.approx(-0.01)
            ended = two.step(LookAction(name=f"answer_{rows[1].answer}"))
            assert ended.done and ended.reward == 1.0 and ended.observation.actions == []
            state = one.state()
            assert (state.step_count, state.sample_id) == (1, rows[0].sample_id) and state.spent == pytest.approx(0.01)
            assert rows[0].answer not in json.dumps(state.model_dump()).replace(rows[0].sample_id, "")


def test_the_space_is_valid():
    validation = pytest.importorskip("openenv.validation", reason="needs openenv")
    report = validation.run_validation(SPACE, max_level=validation.Level.STATIC, skip_build=True)
    assert report.verdict == validation.Verdict.PASS
    assert {one.check_id for one in report.results} >= {"static.manifest"}


def test_tools_are_what_a_trainer_takes(samples: Samples):
    make = tools_factory(samples, CONFIG)
    one, two = make(), make()
    public = {
        name: method
        for name, method in inspect.getmembers(LookAroundTools, inspect.isfunction)
        if not name.startswith("_") and name not in ("reset", "get_reward")
    }
    assert set(public) == {"look", "turn", "move", "zoom", "slices", "page", "neighbours", "answer"}
    utils = pytest.importorskip("transformers.utils", reason="needs transformers")
    for method in public.values():
        schema = utils.get_json_schema(method)["function"]  # raises without types or without docstrings
        assert schema["description"]
    row = samples.rows[0]
    first = one.reset(sample_id=row.sample_id, question=row.question, answer=row.answer)
    two.reset(sample_id=samples.rows[1].sample_id)
    assert first[0]["image"].size == (32, 32) and "answer" in first[1]["text"]
    assert "Views left: 2" in one.look("side")[1]["text"] and "Views left: 1" in one.slices("xy")[1]["text"]
    assert one.get_reward() == pytest.approx(-0.03)
    one.answer(row.answer)
    assert one.get_reward() == pytest.approx(0.97) and two.get_reward() == 0
    with pytest.raises(ValueError, match="over"):
        one.zoom("in")
    with pytest.raises(ValueError, match="answer one of"):
        two.answer("maybe")
