"""A whole run on a segmentation with known errors, and what may interrupt or forbid it."""

from __future__ import annotations

import csv
import json
import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import pytest
from cloudvolume import CloudVolume
from forked import run_forked
from PIL import Image
from toy_models import ToyModel, toy_models
from toy_segmentation import MERGE_ERRORS, OFFSET, SPLIT_ERRORS, arrays, write_toy

from connectomebench.build.config import BuildConfig, load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.base import Answer, Batch
from connectomebench.proofreading.edit_log import Edit, EditLog, read_edits
from connectomebench.proofreading.graph_files import read_graph
from connectomebench.proofreading.loop import LoopConfig, combine
from connectomebench.proofreading.outputs import write_objects
from connectomebench.proofreading.place import open_place
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_options import ProofreadConfig
from connectomebench.proofreading.task_models import TaskModel
from connectomebench.rendering.scene_file import read_cube


def config_of(folder: Path, **options: bool) -> BuildConfig:
    return load_config(write_toy(folder, **options), truth_needed=False)


def run(folder: Path, out: str, config: BuildConfig, models, options: ProofreadConfig | None = None) -> list[str]:
    lines: list[str] = []
    proofread(config, models, folder / out, folder, options or ProofreadConfig(ablation=False), lines.append)
    return lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    lines = run(folder, "out", config_of(folder), toy_models())
    assert lines[0].startswith("3 edits applied")
    return folder


def test_models_that_know_correct_everything(whole: Path):
    scores = json.loads((whole / "out/scores.json").read_text())
    assert scores["before"]["split_errors"] == SPLIT_ERRORS and scores["before"]["merge_errors"] == MERGE_ERRORS
    for name in ("after", "oracle"):
        own = scores[name]
        assert (own["errors"], own["vi_split"], own["vi_merge"], own["adapted_rand"]) == (0, 0, 0, 0)
        assert own["erl_normalised"] == 1 and own["erl_nm"] > scores["before"]["erl_nm"]
    assert scores["share_of_oracle"] == pytest.approx(1)
    assert {k: (v["corrected"], v["added"], v["missed"]) for k, v in scores["edits"].items()} == {
        "merge": (2, 0, 0),
        "split": (1, 0, 0),
    }
    assert scores["baselines"]["nothing"] == scores["before"]
    effort = scores["effort"]
    assert effort["expected_gain"]["share_of_oracle"] == pytest.approx(1)
    assert effort["expected_gain"]["area"] >= effort["random"]["area"]
    steps = scores["steps"]
    assert steps["identification"]["ends"]["recall"] == 1 and steps["correction"]["wrong"] == 0
    assert steps["thresholds"][0]["precision"] == 1


def test_the_written_segmentation_is_the_truth_by_other_names(whole: Path):
    made = arrays()
    volume = CloudVolume(f"precomputed://file://{whole}/out/segmentation", progress=False)
    assert volume.voxel_offset.tolist() == OFFSET and volume.resolution.tolist() == [10, 10, 10]
    written = np.asarray(volume[:])[..., 0]
    pairs = {(int(a), int(b)) for a, b in zip(written.ravel(), made["proofread"].ravel(), strict=True)}
    assert len(pairs) == 5 and (0, 0) in pairs and len({a for a, _ in pairs}) == 5
    assert (written[made["automatic"] == 5] == 5).all()  # what no edit touched keeps its id
    mapping = pq.read_table(whole / "out/mapping.parquet").to_pandas()
    assert set(mapping["object"]) == set(np.unique(written)) - {0}
    assert mapping["voxels"].sum() == (made["automatic"] > 0).sum()
    for row in mapping.itertuples():
        where = made["supervoxels"] == row.source_supervoxel
        assert set(written[where].tolist()) == {row.object}


def test_the_files_are_enough_to_edit_further(whole: Path, tmp_path: Path):
    out = whole / "out"
    graph, edits = read_graph(out)
    mapping = pq.read_table(out / "mapping.parquet").to_pandas()
    assert len(edits) == 3 and graph.objects.tolist() == mapping["object"].tolist()
    # from the supervoxels of the source, which the toy knows: those of one segment that touch have an edge
    made = arrays()
    pieces = np.asarray(CloudVolume(f"precomputed://file://{out}/supervoxels", progress=False)[:])[..., 0]
    touching = set()
    for axis in range(3):
        a, b = (np.moveaxis(pieces, axis, 0)[part].ravel() for part in (slice(None, -1), slice(1, None)))
        touching |= {
            frozenset(pair)
            for pair in zip(a.tolist(), b.tolist(), strict=True)
            if 0 not in pair and len(set(pair)) == 2
        }
    edges = pq.read_table(out / "edges.parquet").to_pandas()
    assert {frozenset(pair) for pair in zip(edges["a"], edges["b"], strict=True)} == touching
    assert ((pieces > 0) == (made["automatic"] > 0)).all()
    written = np.asarray(CloudVolume(f"precomputed://file://{out}/segmentation", progress=False)[:])
    again = write_objects(out / "supervoxels", graph.objects, tmp_path / "again")
    assert (np.asarray(CloudVolume(f"precomputed://file://{again}", progress=False)[:]) == written).all()


def test_edits_and_queue_have_scenes_and_nothing_else_has(whole: Path):
    out = whole / "out"
    kept = [*read_edits(out / "edits.jsonl"), *read_edits(out / "queue.jsonl")]
    folders = {(out / edit.evidence[0]).parent for edit in kept}
    assert {path.parent for path in out.glob("evidence/*/scene.glb")} == folders
    for edit in kept:
        folder = (out / edit.evidence[0]).parent
        center, extent = read_cube((folder / "scene.glb").read_bytes())
        assert extent == 500 and np.abs(np.subtract(center, edit.location_nm)).max() < extent / 2
        assert (folder / "em_xy.png").exists() and "em_xy" not in str(edit.evidence)
        # people see both objects of a merge, and both sides of a cut, in their colours
        red, _, blue = np.moveaxis(np.asarray(Image.open(folder / "em_xy.png").convert("RGB")).astype(int), 2, 0)
        assert (red > blue + 20).any() and (blue > red + 20).any()
    assert {edit.operation for edit in kept} == {"merge", "split"}


def test_edits_name_points_inside_what_they_join_and_part(whole: Path):
    made, out = arrays(), whole / "out"
    edits = read_edits(out / "edits.jsonl")
    assert [edit.operation for edit in edits].count("merge") == 2
    for edit in edits:
        for points, others in (
            (edit.source_points_nm, edit.sink_points_nm),
            (edit.sink_points_nm, edit.source_points_nm),
        ):
            bodies = {int(made["proofread"][tuple(np.floor(np.array(p) / 10 - OFFSET).astype(int))]) for p in points}
            assert len(bodies) == 1 and points != others
            assert bodies == {10} if edit.operation == "merge" else bodies <= {20, 30}
        assert len(edit.evidence) == 3 and all((out / path).read_bytes()[:4] == b"\x89PNG" for path in edit.evidence)
        assert edit.confidence == pytest.approx(combine(0.97, 0.97)) and edit.value > 0
        state = json.loads(unquote(edit.neuroglancer.split("#!")[1]))
        assert state["position"] == list(edit.location_nm)
        assert state["layers"][-1]["annotations"][0]["pointA"] == list(edit.source_points_nm[0])
    with open(out / "edits.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["edit_id"] for row in rows] == [edit.edit_id for edit in edits]
    assert json.loads(rows[0]["source_supervoxels"]) == list(edits[0].source_supervoxels)
    page = (out / "report/index.html").read_text()
    assert "3 edits applied" in page and f"../{edits[0].evidence[0]}" in page and "<script" not in page


@dataclass
class Never(ToyModel):
    """Sees no error anywhere."""

    def predict(self, batch: Batch) -> list[Answer]:
        self.asked += len(batch["images"])
        return [Answer("no", {"no": 1.0, "yes": 0.0}) for _ in batch["images"]]


def test_contacts_find_what_is_not_seen_at_ends(tmp_path: Path):
    config, task = config_of(tmp_path), "endpoint_error_identification"
    blind, merges = Never(task), toy_models()["merge_action"]
    models = {task: TaskModel(task, blind, ()), "merge_action": merges}
    options = ProofreadConfig(ablation=False)
    lines = run(tmp_path, "ends", config, models, options)
    assert any(line.startswith("0 edits applied") for line in lines)
    asked = blind.asked
    lines = run(tmp_path, "contacts", config, models, replace(options, contacts=True))
    assert any(line.startswith("2 edits applied") for line in lines)
    edits = read_edits(tmp_path / "contacts/edits.jsonl")
    assert [edit.candidate for edit in edits] == ["contact", "contact"] and blind.asked == 2 * asked
    scores = json.loads((tmp_path / "contacts/scores.json").read_text())
    assert scores["after"]["split_errors"] == 0 and scores["edits"]["merge"]["added"] == 0
    assert scores["steps"]["identification"]["ends"]["asked"] == asked
    assert scores["steps"]["identification"]["merge_places"]["asked"] == 0
    with pytest.raises(ConnectomeBenchError, match="contacts"):
        run(tmp_path, "contacts", config, models, options)


def test_the_queue_is_ranked_by_expected_gain(tmp_path: Path):
    options = ProofreadConfig(rules=LoopConfig(min_confidence=1.0))
    lines = run(tmp_path, "out", config_of(tmp_path, truth=False), toy_models("merge_action", "split_action"), options)
    assert lines[:2] == [
        "no model of endpoint_error_identification_with_em: every end of an object goes to correction",
        "no model of merge_error_identification: every place of a possible merge error goes to correction",
    ]
    out = tmp_path / "out"
    assert not (out / "scores.json").exists() and read_edits(out / "edits.jsonl") == []
    queue = read_edits(out / "queue.jsonl")
    values = [edit.value for edit in queue]
    assert values == sorted(values, reverse=True) and len(queue) == 3
    assert {edit.operation for edit in queue} == {"merge", "split"} and queue[2].confidence > 0.9
    layer = json.loads((out / "neuroglancer.json").read_text())["layers"][-1]
    assert [one["id"] for one in layer["annotations"]] == [edit.edit_id for edit in queue]
    # a proposal is applied by nobody: the segmentation is as it was
    written = np.asarray(CloudVolume(f"precomputed://file://{out}/segmentation", progress=False)[:])[..., 0]
    assert (written == arrays()["automatic"]).all()


def test_a_limit_takes_the_most_valuable_edit_and_a_larger_one_goes_on(tmp_path: Path):
    config, models = config_of(tmp_path, truth=False), toy_models()
    run(tmp_path, "out", config, models, ProofreadConfig(rules=LoopConfig(max_decisions=1)))
    first = read_edits(tmp_path / "out/edits.jsonl")
    queue = read_edits(tmp_path / "out/queue.jsonl")
    assert len(first) == 1 and first[0].value == max(edit.value for edit in [*first, *queue])
    asked = {task: one.model.asked for task, one in models.items()}
    lines = run(tmp_path, "out", config, models, ProofreadConfig(rules=LoopConfig()))
    assert lines[0].startswith("3 edits applied") and read_edits(tmp_path / "out/edits.jsonl")[0] == first[0]
    # what was asked before is not asked again
    assert models["endpoint_error_identification"].model.asked == asked["endpoint_error_identification"]


def run_until_killed(config: BuildConfig, folder: Path, when: str) -> None:
    """Kill this process while it asks or writes; what is changed here is changed in it alone."""
    whole = EditLog.add

    def add(log: EditLog, edit: Edit) -> None:
        if log.edits:  # half of the second line reaches the disk
            log._stream.write(edit.as_line().encode()[:100])
            log._stream.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        whole(log, edit)

    if when == "writing":
        pytest.MonkeyPatch().setattr(EditLog, "add", add)
    models = toy_models(dies_at=("split_action", 2) if when == "asking" else None)
    proofread(config, models, folder / "out", folder)


@pytest.mark.parametrize("when", ["asking", "writing"])
def test_a_killed_run_ends_as_if_it_had_not_been(whole: Path, tmp_path: Path, when: str):
    config = config_of(tmp_path)
    log = tmp_path / "killed.log"
    assert run_forked(lambda: run_until_killed(config, tmp_path, when), log) == -signal.SIGKILL, log.read_text()
    left = (tmp_path / "out/edits.jsonl").read_bytes()
    assert left.count(b"\n") == (1 if when == "writing" else 0)
    run(tmp_path, "out", config, toy_models())
    tables = ("mapping.parquet", "overlaps.parquet", "states.parquet")
    for name in ("edits.jsonl", "edits.csv", "queue.jsonl", *tables, "scores.json", "report/index.html"):
        assert (tmp_path / "out" / name).read_bytes() == (whole / "out" / name).read_bytes(), name


def test_trusted_bodies_are_never_joined(tmp_path: Path):
    options = ProofreadConfig(trusted=(1, 3))
    run(tmp_path, "out", config_of(tmp_path, truth=False), toy_models("merge_action"), options)
    mapping = pq.read_table(tmp_path / "out/mapping.parquet").to_pandas()
    held = mapping.groupby("object")["segment"].agg(set)
    assert any({1, 2} <= own or {2, 3} <= own for own in held) and not any({1, 3} <= own for own in held)
    assert "refused: two trusted bodies would be joined: 2" in (tmp_path / "out/report/index.html").read_text()


def test_a_budget_is_kept(tmp_path: Path):
    config = config_of(tmp_path, truth=False)
    models = toy_models("merge_action", cost_usd=0.01)
    lines = run(tmp_path, "out", config, models, ProofreadConfig(max_usd=0.015))
    assert models["merge_action"].model.asked == 1 and "the budget in USD is spent" in lines[-2]
    assert "1 edits applied" in lines[-2]
    with pytest.raises(ConnectomeBenchError, match="does not say what its answers cost"):
        run(tmp_path, "unknown", config, toy_models("merge_action"), ProofreadConfig(max_usd=1.0))


def test_what_cannot_be_is_one_line(tmp_path: Path, whole: Path):
    config = config_of(tmp_path)
    with pytest.raises(ConnectomeBenchError, match="different: models, min_confidence"):
        run(whole, "out", config, toy_models("merge_action"), ProofreadConfig(rules=LoopConfig(min_confidence=0.5)))
    with pytest.raises(ConnectomeBenchError, match="no model judges a correction"):
        run(tmp_path, "out", config, toy_models("merge_error_identification"))
    with pytest.raises(ConnectomeBenchError, match="holds no voxel of the volume"):
        run(tmp_path, "out", config, toy_models(), ProofreadConfig(box_nm=(0, 0, 0, 100, 100, 10)))
    with pytest.raises(ConnectomeBenchError, match="leave --segmentation out"):
        run(tmp_path, "out", config, toy_models(), ProofreadConfig(segmentation="ffn"))
    for bad in ({"min_confidence": 1.5}, {"max_decisions": -1}, {"max_rounds": 0}):
        with pytest.raises(ConnectomeBenchError, match="must"):
            LoopConfig(**bad)


def test_a_box_is_cut_out_of_every_volume(tmp_path: Path):
    config = config_of(tmp_path)
    place = open_place(config, tmp_path, tmp_path / "cache", box_nm=(501, 60, 100, 900, 300, 300))
    made = arrays()
    here = (slice(20, 60), slice(6, 30), slice(6, 26))
    assert place.box.lower_nm == (500, 60, 100) and place.offset_vx == (50, 6, 10)
    assert place.truth is not None
    whole_box = (0, 0, 0), place.shape
    assert (place.labels.read(*whole_box) == made["automatic"][here]).all()
    assert (place.truth.read(*whole_box) == made["proofread"][here]).all()
    source = place.blind(place.supervoxels.segments)
    assert (source.automatic.read(*whole_box) == made["automatic"][here]).all()
    assert (source.gray() == made["image"][here]).all()
    assert source.proofread is source.automatic  # nothing of the truth can be seen from there
    whole = open_place(replace(config), tmp_path, tmp_path / "cache")
    assert tuple(whole.labels.shape) == whole.shape == made["automatic"].shape


def test_an_edit_is_as_sure_as_both_of_its_questions():
    assert combine(0.9, 0.8) == pytest.approx(0.72)
    assert combine(None, 0.8) == 0.8 and combine(0.9, None) == 0.9
