"""Somas of SWC files through the simulation, and meshes of whole segments."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from connectomebench.core.errors import TaskLacking
from connectomebench.core.site import Site
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.views import ViewConfig, render_site
from connectomebench.sites import segment_classes
from connectomebench.sites.labels import SiteConfig
from connectomebench.sites.segment_classes import classification_sites
from connectomebench.sources.morphology.morphology_source import MorphologySource, SimulationConfig
from connectomebench.sources.morphology.tubes import cones_between
from connectomebench.sources.morphology.whole_tubes import SIDES, frusta_mesh

UNIT_NM = 1000.0


def write_neuron(path: Path, rng: np.random.Generator, at: np.ndarray, soma: bool) -> np.ndarray:
    """A cell body with an axon of 60 µm and twigs, in µm; return the middle of the cell body."""
    lines = [f"1 {int(soma)} {at[0]:.3f} {at[1]:.3f} {at[2]:.3f} 4.0 -1"]
    heading, here, number, trunk = rng.normal(size=3), at.copy(), 1, 1
    for step in range(120):
        heading = heading / np.linalg.norm(heading) + 0.1 * rng.normal(size=3)
        here = here + 0.5 * heading / np.linalg.norm(heading)
        number += 1
        lines.append(f"{number} 2 {here[0]:.3f} {here[1]:.3f} {here[2]:.3f} 0.15 {trunk}")
        trunk = number
        if step % 20 == 10:
            way, there, before = rng.normal(size=3), here.copy(), trunk
            for _ in range(12):
                there, number = there + 0.5 * way / np.linalg.norm(way), number + 1
                lines.append(f"{number} 3 {there[0]:.3f} {there[1]:.3f} {there[2]:.3f} 0.1 {before}")
                before = number
    path.write_text("\n".join(lines) + "\n")
    return at


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, np.ndarray]]:
    """Six neurons, five of them with a labelled cell body."""
    made, rng = tmp_path_factory.mktemp("neurons"), np.random.default_rng(3)
    somas = {}
    for k in range(6):
        at = rng.uniform(0, 40, 3)
        place = write_neuron(made / f"{100 + k}.swc", rng, at, soma=k < 5)
        if k < 5:
            somas[f"{100 + k}"] = place * UNIT_NM
    return made, somas


@pytest.fixture(scope="module")
def source(folder: tuple[Path, dict[str, np.ndarray]]) -> MorphologySource:
    rules = SimulationConfig(cut_spacing_nm=15_000, fused_fraction=0.3)
    return MorphologySource(rules, "fly", folder[0], UNIT_NM, "cc-by-4.0", "none")


def test_segments_hold_the_somas_of_the_files(
    source: MorphologySource, folder: tuple[Path, dict[str, np.ndarray]]
) -> None:
    found = {whole.segment: whole for whole in source.whole_segments().found}
    rec = source.reconstruction
    assert set(found) == set(np.unique(rec.segments).tolist())
    assert sum(len(whole.kinds) for whole in found.values()) == 5
    expected: dict[int, int] = {}
    for name, place in folder[1].items():
        own = rec.bodies == np.uint64(int(name))
        nearest = np.flatnonzero(own)[np.argmin(np.linalg.norm(rec.nodes_nm[own] - place, axis=1))]
        assert np.linalg.norm(rec.nodes_nm[nearest] - place) < 1000
        segment = int(rec.segments[nearest])
        expected[segment] = expected.get(segment, 0) + 1
    assert {s: len(w.kinds) for s, w in found.items() if w.kinds} == expected


def test_boxes_hold_all_tubes(source: MorphologySource) -> None:
    rec = source.reconstruction
    for whole in source.whole_segments().found[:10]:
        own = rec.segments == np.uint64(whole.segment)
        assert whole.box.contains(rec.nodes_nm[own]).all()
        # the faces that ends stop at reach a little further than the last node
        skeleton = (rec.nodes_nm[own] - rec.radii_nm[own, None]).min(axis=0)
        assert (np.subtract(skeleton, whole.box.lower_nm) >= -0.1).all()
        assert np.subtract(skeleton, whole.box.lower_nm).max() < 1000


def test_whole_segments_are_drawn_inside_the_view(source: MorphologySource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment_classes, "LEAST", 1)
    labelled = classification_sites(source, SiteConfig((1000, 2000), 1))
    letters = {site.answer for site in labelled.sites}
    assert "a" in letters | {"b"} and "c" in letters
    for site in [next(s for s in labelled.sites if s.answer == letter) for letter in sorted(letters)]:
        assert site.origin == "simulated"
        drawn = render_whole(source, site)
        assert list(drawn) == ["front", "side", "top"]
        for picture in drawn.values():
            rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
            assert (rim == 255).all()  # nothing is cut off


def render_whole(source: MorphologySource, site: Site) -> dict[str, np.ndarray]:
    drawn = render_site(site, source.meshes(site), None, rules=ViewConfig(image_px=96), engine=CpuEngine(1))
    return {view: np.asarray(picture) for view, picture in drawn.items()}


def test_frusta_are_closed_and_point_outwards() -> None:
    rng = np.random.default_rng(0)
    starts = rng.uniform(0, 1e4, (20, 3))
    cones = cones_between(starts, starts + rng.normal(size=(20, 3)) * 500, np.full(20, 100.0), np.full(20, 60.0))
    cones[0, 3:6], cones[0, 8] = cones[0, :3], 0  # a ball
    mesh = frusta_mesh(cones)
    assert len(mesh.faces) > 20 * 4 * SIDES  # a ball for the one that has no length
    halves = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]], mesh.faces[:, [2, 0]]])
    assert len(np.unique(halves, axis=0)) == len(halves)  # every edge once in each direction
    assert {tuple(e) for e in halves.tolist()} == {tuple(e) for e in halves[:, ::-1].tolist()}
    for tube in range(20):
        own = mesh.faces[tube * 4 * SIDES : (tube + 1) * 4 * SIDES]
        a, b, c = mesh.vertices_nm[own.T].astype(np.float64)
        centre = mesh.vertices_nm[np.unique(own)].mean(axis=0)
        assert np.einsum("ni,ni->n", a - centre, np.cross(b - centre, c - centre)).sum() > 0


def test_a_wide_short_tube_is_a_ball() -> None:
    """A cell body of one point is as thick along the neurite as across."""
    cones = cones_between(np.zeros((1, 3)), np.array([[100.0, 0, 0]]), np.array([4000.0]), np.array([150.0]))
    mesh = frusta_mesh(cones)
    reach = np.ptp(mesh.vertices_nm, axis=0)
    assert (reach > 7300).all() and (reach <= 8001).all()
    a, b, c = mesh.vertices_nm[mesh.faces.T].astype(np.float64)
    volume = np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6
    assert 0.75 < volume / (4 / 3 * np.pi * 4000**3) < 1.05


def test_files_without_labelled_somas_leave_the_task_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    for k in range(2):
        write_neuron(tmp_path / f"{k + 1}.swc", rng, rng.uniform(0, 10, 3), soma=False)
    bare = MorphologySource(SimulationConfig(), "fly", tmp_path, UNIT_NM, "cc-by-4.0", "none")
    with pytest.raises(TaskLacking, match=r"no point of these SWC files is labelled as soma \(type 1\)"):
        bare.whole_segments()
