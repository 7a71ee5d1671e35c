"""Looking around in a built dataset: what is stored, what is seen, what it costs."""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from connectomebench.build.config import load_config
from connectomebench.build.write_neighbourhoods import write_dataset_neighbourhoods
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.neighbourhoods import (
    NEIGHBOUR,
    Neighbourhood,
    StoredNeighbourhoods,
    neighbourhoods_path,
    pack,
    unpack,
    write_neighbourhoods,
)
from connectomebench.environment.camera import VIEW_ACTIONS, first_camera, moved
from connectomebench.environment.drawing import draw
from connectomebench.environment.episode import Episode, EpisodeConfig
from connectomebench.environment.recording import Recorder, read_episodes, replay, write_episodes
from connectomebench.environment.samples import Samples, open_samples
from connectomebench.rendering.colours import BACKGROUND

EM_TASK = "endpoint_error_identification_with_em"


def test_first_views_are_the_pictures_of_the_rows(samples: Samples, surveyed: Path):
    for row in load_rows(str(surveyed / EM_TASK), "fly", "test").dataset:
        place = samples.place(samples.number(row["sample_id"]))
        assert place.center_nm == tuple(row["location_nm"]) and place.extent_nm == row["extent_nm"]
        for view, picture in zip(row["views"], row["images"], strict=True):
            stored = np.asarray(picture.convert("RGB") if isinstance(picture, Image.Image) else picture).astype(int)
            ours = draw(place, moved(first_camera(place), view, place), 64).astype(int)
            if view in MESH_VIEWS:
                seen, drawn = (np.abs(p - BACKGROUND).max(axis=2) > 40 for p in (stored, ours))
                assert (seen & drawn).sum() >= 0.9 * (seen | drawn).sum(), view
            else:
                assert view in EM_VIEWS and np.abs(stored - ours).max() <= 1, view


def test_nothing_stored_says_what_is_true(surveyed: Path):
    rows = load_rows(str(surveyed / EM_TASK), "fly", "test").dataset
    with zipfile.ZipFile(neighbourhoods_path(surveyed / EM_TASK, "fly", "test")) as archive:
        assert sorted(archive.namelist()) == sorted(f"{row['sample_id']}.npz" for row in rows)
        for row in rows:
            content = archive.read(f"{row['sample_id']}.npz")
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                assert set(arrays.files) == {"center_nm", "sizes_nm", "names", "vertices", "faces", "vertex_starts",
                                             "face_starts", "slices", "labels"}  # fmt: skip
                assert set(arrays["names"].tolist()) <= {"base", NEIGHBOUR}
                assert arrays["labels"].max() <= 255 and arrays["slices"].shape[1] == 3
            for one in (*row["segment_ids"], *row["body_ids"]):
                assert np.uint64(one).tobytes() not in content


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


def _small() -> Neighbourhood:
    from connectomebench.core.geometry import Mesh

    mesh = Mesh(np.eye(3, dtype=np.float32) * 100, np.array([[0, 1, 2]], np.int32))
    slices = np.arange(3 * 3 * 16 * 16, dtype=np.uint8).reshape(3, 3, 16, 16)
    return Neighbourhood((1.0, 2.0, 3.0), 500.0, 1000.0, ("base",), (mesh,), slices, slices % 3, 31.0)


def test_what_is_packed_comes_back(tmp_path: Path):
    place = _small()
    back = unpack(pack(place))
    assert (back.center_nm, back.extent_nm, back.reach_nm, back.names) == ((1, 2, 3), 500, 1000, ("base",))
    assert np.allclose(back.meshes[0].vertices_nm, place.meshes[0].vertices_nm, atol=0.01)
    assert np.array_equal(back.slices, place.slices) and np.array_equal(back.labels, place.labels)
    paths = [tmp_path / name / "fly/neighbourhoods-test-00000-of-00001.zip" for name in "ab"]
    assert [write_neighbourhoods(path, [("s", place)]) for path in paths] == [1, 1]
    assert paths[0].read_bytes() == paths[1].read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("vertices", np.array([["x"]], object)),
        ("faces", np.array([[0, 1, 9]], np.int32)),
        ("names", np.array(["base"] * 9)),
        ("sizes_nm", np.array([math.nan, 1, 1, 1])),
        ("face_starts", np.array([0, 5])),
        ("slices", np.zeros((2, 2), np.uint8)),
        ("center_nm", None),
    ],
)
def test_damaged_neighbourhoods_give_one_line(tmp_path: Path, name: str, value: np.ndarray | None):
    with np.load(io.BytesIO(pack(_small()))) as arrays:
        content = {key: arrays[key] for key in arrays.files} | {name: value}
    stream = io.BytesIO()
    np.savez(stream, **{key: one for key, one in content.items() if one is not None})
    folder = tmp_path / "fly"
    folder.mkdir()
    with zipfile.ZipFile(folder / "neighbourhoods-test-00000-of-00001.zip", "w") as archive:
        archive.writestr("s.npz", stream.getvalue())
        # a few kilobytes that would unpack to more than is read
        if name == "center_nm":
            archive.writestr("bomb.npz", bytes(64_000_001), zipfile.ZIP_DEFLATED)
        archive.writestr("text.npz", b"no archive")
    stored = StoredNeighbourhoods(folder)
    for sample in ("s", "text"):
        with pytest.raises(
            ConnectomeBenchError, match=r"cannot be read \(.+\); write the neighbourhoods again"
        ) as error:
            stored.get(sample)
        assert "\n" not in str(error.value)
    if name == "center_nm":
        with pytest.raises(ConnectomeBenchError, match="too large"):
            stored.get("bomb")
        with pytest.raises(ConnectomeBenchError, match="has no neighbourhood"):
            stored.get("else")


def test_files_that_exist_are_kept(surveyed: Path, short_config: Path):
    path = neighbourhoods_path(surveyed / EM_TASK, "fly", "test")
    before = path.stat().st_mtime_ns
    tasks = [EM_TASK, "endpoint_localization"]  # in the second one cannot look around
    assert write_dataset_neighbourhoods(load_config(short_config), surveyed, short_config.parent, tasks) == [path]
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ConnectomeBenchError, match="build --neighbourhoods validation"):
        open_samples(surveyed / EM_TASK, "fly", "validation")
