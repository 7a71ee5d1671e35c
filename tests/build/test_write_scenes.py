"""Scenes of a built dataset show what its pictures show, and bodies where the source has them."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from swept_tubes import tube
from toy_segmentation import arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.build.truth_sentence import truth_sentence
from connectomebench.build.write_scenes import SEVERAL_COLOURS, WIDER, truth_scene, write_dataset_scenes
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Part, Site
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.scene_shards import StoredScenes
from connectomebench.execution.runner import SerialRunner
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.scene_file import read_cube, read_text
from connectomebench.sources.factory import open_source

trimesh = pytest.importorskip("trimesh", reason="needs trimesh")


def meshes_of(content: bytes) -> dict[str, Mesh]:
    """Read a scene with another reader; vertices in nm of the source."""
    center, _ = read_cube(content)
    scene = trimesh.load(io.BytesIO(content), file_type="glb", process=False)
    found = {}
    for name in sorted(scene.graph.nodes_geometry):
        transform, own = scene.graph[name]
        points = trimesh.transform_points(np.asarray(scene.geometry[own].vertices), transform) + center
        found[name] = Mesh(points.astype(np.float32), np.asarray(scene.geometry[own].faces, np.int32))
    return found


def test_scenes_draw_the_pictures_of_their_rows(built_short: Path, short_config: Path, tmp_path: Path):
    out = tmp_path / "out"
    shutil.copytree(built_short, out)
    config = load_config(short_config)
    paths = write_dataset_scenes(config, out, short_config.parent, ["merge_action"])
    assert list(paths) == ["merge_action"] and paths["merge_action"].exists()
    rows = load_rows(str(out / "merge_action"), "fly", "test").dataset
    stored = StoredScenes([out / "merge_action" / "fly"])
    for row in rows:
        content = stored.get(row["sample_id"], "scene")
        assert content is not None and read_cube(content) == (tuple(row["location_nm"]), row["extent_nm"])
        assert not [one for one in row["segment_ids"] if f'"{one}"'.encode() in content]
        parts = meshes_of(content)
        assert list(parts) == ["base", "candidate"]
        drawn = CpuEngine(1).render([*parts.values()], [BLUE, ORANGE], *read_cube(content), 64)
        for view, picture in zip(row["views"], row["images"], strict=True):
            stored_picture = np.asarray(picture.convert("RGB") if isinstance(picture, Image.Image) else picture)
            ours, theirs = (np.abs(p.astype(int) - BACKGROUND).max(axis=2) > 40 for p in (drawn[view], stored_picture))
            assert (ours & theirs).sum() >= 0.95 * (ours | theirs).sum(), view
        truth = stored.get(row["sample_id"], "truth")
        assert truth is not None and read_cube(truth)[1] == pytest.approx(WIDER * row["extent_nm"])
    before = paths["merge_action"].read_bytes()
    paths["merge_action"].unlink()
    assert (
        write_dataset_scenes(config, out, short_config.parent, ["merge_action"])["merge_action"].read_bytes() == before
    )


def test_the_truth_of_a_volume_is_its_bodies(tmp_path: Path):
    config = load_config(write_toy(tmp_path))
    source = open_source(config.source, "fly", tmp_path / "cache", tmp_path, SerialRunner())
    # segments 1 and 2 are parts of body 10, in voxels of 10 nm with an offset
    site = Site("merge_action", (700.0, 100.0, 200.0), 500.0, (Part(1, "base"), Part(2, "candidate")), "yes", (1, 2),
                (10, 10), "edit")  # fmt: skip
    content = truth_scene(site, source)
    parts = meshes_of(content)
    assert list(parts) == ["body", "hidden segment 1", "hidden segment 2"] and b'"segment_id":"10"' in content
    made = arrays()
    along = np.flatnonzero((made["proofread"] == 10).any(axis=(1, 2)))
    whole = parts["body"].vertices_nm[:, 0]
    edge = 500.0 * WIDER / 2
    assert whole.min() == pytest.approx(max(700 - edge, (along.min() + 30) * 10), abs=60)
    assert whole.max() == pytest.approx(min(700 + edge, (along.max() + 31) * 10), abs=60)
    assert parts["hidden segment 1"].vertices_nm[:, 0].max() < 730 < parts["hidden segment 2"].vertices_nm[:, 0].max()
    assert len(set(SEVERAL_COLOURS)) == len(SEVERAL_COLOURS)
    told = re.fullmatch(
        r"The two come within (\d+) nm of each other, and their directions there differ by (\d+)°\. They touch over "
        r"([\d,]+) nm²\. They are about (\d+) nm and (\d+) nm thick there\. They are one neuron\.",
        read_text(content),
    )
    # they touch, and the tube is straight
    assert told is not None and int(told[1]) <= 20 and int(told[2]) <= 15
    # counted again in the raw labels: faces between 1 and 2, and the circle as large as a cross-section
    labels = made["automatic"].astype(int)
    pairs = ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1]), (labels[:, :, 1:], labels[:, :, :-1]))
    faces = sum(int(((a == 1) & (b == 2) | (a == 2) & (b == 1)).sum()) for a, b in pairs)
    assert int(told[3].replace(",", "")) == pytest.approx(faces * 100, rel=0.05) and faces > 0
    thick = 2 * np.sqrt((labels[20] == 1).sum() * 100 / np.pi)
    assert all(int(one) == pytest.approx(thick, rel=0.15) for one in told.groups()[3:])


@pytest.mark.parametrize(("radii", "gap_nm"), [((60.0, 60.0), 20.0), ((100.0, 50.0), 20.0), ((60.0, 60.0), 400.0)])
def test_the_sentence_of_two_tubes_is_what_they_were_made_of(radii: tuple[float, float], gap_nm: float):
    x = np.linspace(0, 1000, 101)
    first, second = (
        tube(np.stack([x, 0 * x + y, 0 * x], axis=1), radius, sides=64)
        for y, radius in zip((0.0, radii[0] + gap_nm + radii[1]), radii, strict=True)
    )
    site = Site("merge_action", (500.0, radii[0], 0.0), 1000.0, (Part(1, "base"), Part(2, "candidate")), "no", (1, 2),
                (7, 8), "control")  # fmt: skip
    said = truth_sentence(site, [first, second])
    thick = re.search(r"They are about (\d+) nm and (\d+) nm thick there\.", said)
    assert thick is not None and said.endswith("They are two neurons.") and re.search("differ by [0-5]°", said)
    assert [int(one) for one in thick.groups()] == pytest.approx([2 * radius for radius in radii], rel=0.1)
    area = re.search(r"within 60 nm of each other over ([\d,]+) nm²", said)
    if gap_nm > 60:
        assert area is None
        return
    # strips of two circles: points of one that lie within 60 nm of the other, counted on rays
    assert area is not None
    expected = []
    for own, other in (radii, radii[::-1]):
        turn = np.linspace(-np.pi, np.pi, 100_000)
        away = np.hypot(own + gap_nm + other - own * np.cos(turn), own * np.sin(turn)) - other
        expected.append(1000 * own * 2 * np.pi * (away <= 60).mean())
    assert int(area[1].replace(",", "")) == pytest.approx(sum(expected) / 2, rel=0.2)


@pytest.mark.parametrize(("bodies", "answer", "end"), [
    ((7, 8), "yes", "This segment holds 2 neurons here. The proposed cut is right."),
    ((7, 8), "no", "This segment holds 2 neurons here. The proposed cut is wrong."),
])  # fmt: skip
def test_the_sentence_of_a_cut_has_its_sides(bodies: tuple[int, int], answer: str, end: str):
    """Two tubes of one segment, side by side: the same strips face each other as of two segments."""
    x = np.linspace(0, 1000, 101)
    sides = [tube(np.stack([x, 0 * x + y, 0 * x], axis=1), 60.0, sides=64) for y in (0.0, 140.0)]
    whole = Site("split_action", (500.0, 60.0, 0.0), 1000.0, (Part(1, "source"), Part(1, "sink")), answer, (1,),
                 bodies, "edit")  # fmt: skip
    of_two = Site("merge_action", (500.0, 60.0, 0.0), 1000.0, (Part(1, "base"), Part(2, "candidate")), "no", (1, 2),
                  bodies, "edit")  # fmt: skip
    said, same = truth_sentence(whole, sides), truth_sentence(of_two, sides)
    area = re.search(r"within 60 nm of each other over ([\d,]+) nm²", same)
    assert area is not None and said.startswith(f"The sides of the cut lie {area[0]}.")
    assert said.endswith(f"nm thick there. {end}")
