"""Looking around in a built dataset: what is stored, what is seen, what it costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.neighbourhoods import NEIGHBOUR
from connectomebench.environment.camera import VIEW_ACTIONS, first_camera, moved
from connectomebench.environment.drawing import draw
from connectomebench.environment.episode import Episode, EpisodeConfig
from connectomebench.environment.recording import Recorder, read_episodes, replay, write_episodes
from connectomebench.environment.samples import Samples, open_samples
from connectomebench.rendering.colours import BACKGROUND, BLUE


def test_each_view_shows_its_own_side(samples: Samples):
    place = samples.place(0)
    camera = first_camera(place)
    front = np.abs(draw(place, camera, 64).astype(int) - BACKGROUND).max(axis=2) > 40
    # the base reaches from the left edge to just behind the middle, a third of the picture high
    assert front[32, :35].all() and not front[32, 37:].any() and front[:, 5].sum() == pytest.approx(64 / 3, abs=2)
    # from the side one sees y and z: a third by a quarter
    side = np.abs(draw(place, moved(camera, "side", place), 64).astype(int) - BACKGROUND).max(axis=2) > 40
    assert side.any(axis=0).sum() == pytest.approx(64 / 3, abs=2) and side.any(axis=1).sum() == pytest.approx(16, abs=2)
    nearer = np.abs(draw(place, moved(camera, "zoom_in", place), 64).astype(int) - BACKGROUND).max(axis=2) > 40
    assert nearer[:, 5].sum() == pytest.approx(1.5 * 64 / 3, abs=2)
    beside = draw(place, moved(camera, "neighbours", place), 64)
    assert (beside[32, 55] != BACKGROUND).any() and abs(int(beside[32, 10, 2]) - BLUE[2]) < 90
    # what the slice shows there: no data beyond its edge, once one moves
    far = moved(moved(moved(camera, "em_xy", place), "move_right", place), "move_right", place)
    hatch = draw(place, far, 64)[:, 40:].reshape(-1, 3)
    assert len(np.unique(hatch, axis=0)) == 2


def test_neighbours_and_turns_change_what_is_seen(samples: Samples):
    place = next(p for p in map(samples.place, range(len(samples))) if NEIGHBOUR in p.names)
    camera = first_camera(place)
    alone, beside = (draw(place, c, 64) for c in (camera, moved(camera, "neighbours", place)))
    assert (alone != beside).any()
    for pair in (("turn_left", "turn_right"), ("turn_up", "turn_down"), ("zoom_in", "zoom_out")):
        once = moved(camera, pair[0], place)
        back = moved(once, pair[1], place)
        assert (draw(place, once, 64) != alone).any() and back.frame == camera.frame, pair
        assert back.extent_nm == pytest.approx(camera.extent_nm)
    assert moved(camera, "move_right", place).offset_nm == (place.extent_nm / 4, 0, 0)
    side = moved(camera, "side", place)
    assert moved(side, "move_right", place).offset_nm == (0, place.extent_nm / 4, 0)  # its columns are y
    # three turns of 30 degrees to the right show what the side view shows
    turned = camera
    for _ in range(3):
        turned = moved(turned, "turn_right", place)
    assert np.allclose(turned.matrix()[2], (1, 0, 0)) or np.allclose(turned.matrix()[2], (-1, 0, 0))
    assert np.linalg.det(turned.matrix()) == pytest.approx(1)
    sliced = moved(camera, "em_xy", place)
    assert moved(sliced, "next_page", place).page == sliced.page + 1
    for _ in range(9):
        sliced = moved(sliced, "next_page", place)
    assert sliced.page == place.pages - 1
    assert moved(camera, "next_page", place) == camera


def test_prices_and_rewards(samples: Samples):
    config = EpisodeConfig(pixels=32, view_price=0.25, slice_price=0.5, max_views=3, wrong=-1.0)
    row, place = samples.rows[0], samples.place(0)
    episode = Episode(row, place, config)
    assert [episode.step(a).reward for a in ("side", "em_xy", f"answer_{row.answer}")] == [-0.25, -0.5, 1.0]
    assert episode.over and episode.right and episode.total == 0.25 and episode.views == 2
    with pytest.raises(ConnectomeBenchError, match="over"):
        episode.step("top")
    other = next(label for label in row.labels if label != row.answer)
    assert Episode(row, place, config).step(f"answer_{other}").reward == -1.0
    tired = Episode(row, place, config)
    steps = [tired.step("top") for _ in range(3)]
    assert [one.out_of_views for one in steps] == [False, False, True] and tired.prediction is None and not tired.right
    with pytest.raises(ConnectomeBenchError, match="no action 'dance'"):
        Episode(row, place, config).step("dance")


def test_episodes_are_played_again(samples: Samples, tmp_path: Path):
    rng = np.random.default_rng(5)
    records = []
    for number, row in enumerate(samples.rows):
        recorder = Recorder(Episode(row, samples.place(number), EpisodeConfig(pixels=32)))
        for action in (*rng.choice(VIEW_ACTIONS, 6).tolist(), "answer_yes"):
            recorder.episode.step(action)
            recorder.saw()
        records.append(recorder.record(samples, "random"))
    path = tmp_path / "episodes.jsonl"
    write_episodes(path, records)
    again = list(read_episodes(path))
    assert again == records
    assert [replay(one, samples).total for one in again] == pytest.approx([sum(one.rewards) for one in records])
    text = path.read_text()
    spoilt = tmp_path / "spoilt.jsonl"
    spoilt.write_text(text.replace(records[0].pictures[3], "0" * 64, 1))
    with pytest.raises(ConnectomeBenchError, match=r"does not come out the same \(picture \d\)"):
        replay(next(read_episodes(spoilt)), samples)
    for damage in ("{}", "[" * 9000, text[:200], '{"format": 1}'):
        spoilt.write_text(damage)
        with pytest.raises(ConnectomeBenchError, match="line 1: this is no episode"):
            list(read_episodes(spoilt))


def test_gymnasium_accepts_it(samples: Samples):
    pytest.importorskip("gymnasium", reason="needs gymnasium")
    from gymnasium.utils.env_checker import check_env

    from connectomebench.environment.gym_environment import LookAround

    check_env(LookAround(samples, EpisodeConfig(pixels=32), render_mode="rgb_array"), skip_render_check=False)
    environment = LookAround(samples, EpisodeConfig(pixels=32))
    for row in samples.rows:
        seen, info = environment.reset(options={"sample_id": row.sample_id})
        assert info["question"] == row.question and seen["picture"].shape == (32, 32, 3)
        assert not info["useful"][environment.actions.index("front")]  # it is seen already
        *_, ended, _, info = environment.step(np.int64(environment.actions.index(f"answer_{row.answer}")))
        assert ended and environment.record("me").prediction == row.answer
    first = [environment.reset(seed=3)[1]["sample_id"] for _ in range(2)]
    assert first[0] == first[1]


def test_rows_without_neighbourhoods_are_named(surveyed: Path):
    with pytest.raises(ConnectomeBenchError, match="build --neighbourhoods validation"):
        open_samples(surveyed, "fly", "validation")
