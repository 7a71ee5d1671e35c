"""What people said of the corrections of a run, from records as the package writes them, against a count by hand."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from stored_rows import png, source_info, write_dataset
from toy_models import ToyModel, toy_models
from toy_segmentation import arrays, write_toy

from connectomebench.build.config import load_config
from connectomebench.cli import main
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Part, Site
from connectomebench.core.tasks import get_task
from connectomebench.dataset.loading import load_rows
from connectomebench.dataset.schema import make_row
from connectomebench.evaluation.results import read_results, write_results
from connectomebench.human_eval import rating
from connectomebench.human_eval.rating import Rater, rate
from connectomebench.models.base import Answer, Batch
from connectomebench.proofreading.people_records import RatedRow, people_sentence, read_rated_rows
from connectomebench.proofreading.run import proofread
from connectomebench.proofreading.run_options import ProofreadConfig

SAME_PLACE_NM = 80.0
# place, segments, right answer, source, what ada and bob say; one of a merge at x = 755 is no error
MERGES = {
    "found": ((700, 95, 215), (1, 2), "yes", "toy", "yes", "yes"),
    "missed": ((1095, 95, 215), (2, 3), "yes", "toy", "no", "no"),
    "wrong": ((755, 155, 215), (5, 2), "no", "toy", "yes", "yes"),
    "tie": ((635, 155, 215), (5, 1), "no", "toy", "yes", "no"),
    "away": ((1155, 155 + SAME_PLACE_NM + 1, 215), (5, 3), "no", "toy", "yes", "yes"),
    "otherwise": ((1155, 155, 215), (5, 3), "yes", "toy", "yes", "yes"),
    "second": ((755, 95, 215), (1, 2), "yes", "toy", "no", "no"),  # further from the place than "found"
    "elsewhere": ((1155, 155, 215), (5, 3), "no", "cube", "yes", "yes"),
}
SPLITS = {
    "cut": ((937, 496, 205), (4,), "yes", "toy", "yes"),
    "kept": ((805, 389, 205), (4,), "no", "toy", "no"),
    "other cut": ((936, 495, 205), (4,), "no", "toy", "yes"),
}


class Hasty(ToyModel):
    """A toy model that also joins the neurite beside at one place."""

    def predict(self, batch: Batch) -> list[Answer]:
        wrong = [abs(at[0] - 755) < 1 and abs(at[1] - 155) < 1 for at in batch["location_nm"]]
        sure = Answer("yes", {"no": 0.2, "yes": 0.8})
        return [sure if is_wrong else answer for is_wrong, answer in zip(wrong, super().predict(batch), strict=True)]


def write_again(path: Path, frame: pd.DataFrame, **changed: str | float) -> Path:
    """Write records again with other values in some columns."""
    kept: Any = frame.assign(**changed).dropna(axis=1, how="all").to_dict("records")
    return write_results(path, kept)


def write_rows(out: Path, task: str, rows: Mapping[str, tuple]) -> Path:
    made = []
    for number, (at, segments, answer, source, *_) in enumerate(rows.values()):
        roles: Any = get_task(task).roles
        parts = (Part(segments[0], roles[0]), Part(segments[-1], roles[1]))
        site = Site(task, at, 500.0, parts, answer, segments, (), "control")
        images = {view: png(10 * number + i) for i, view in enumerate(site.views)}
        made.append(make_row(site, images, f"group-{number}", replace(source_info(), name=source)))
    return write_dataset(out, task, rows={"train": made[:1], "validation": made[:1], "test": made})


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two datasets that ada rated, and one of them bob, too."""
    folder = tmp_path_factory.mktemp("study")
    with pytest.MonkeyPatch.context() as patched:
        for task, rows in (("merge_action", MERGES), ("split_action", SPLITS)):
            loaded = load_rows(str(write_rows(folder / "data", task, rows)), "fly", "test")
            at = [tuple(place) for place in loaded.dataset["location_nm"]]
            for name, column, seconds in (("ada", 4, 3.0), ("bob", 5, 4.0)):
                if task == "split_action" and name == "bob":
                    continue
                says = {(row[0], row[3]): row[column] for row in rows.values()}
                where = list(zip(at, loaded.dataset["source"], strict=True))

                def show(session, *_, says=says, where=where, seconds=seconds):
                    while session.done < len(session.items):
                        item = session.items[session.done]
                        assert session.rate(session.done, (says[where[item.row]], "4"), seconds)

                patched.setattr(rating, "show", show)
                rate(loaded, Rater(name), folder / "records")
    # a model's records lie beside, and what ada said in another condition
    frame = read_results(folder / "records/person-ada/merge_action")
    write_again(folder / "records/model.parquet", frame, model="probe")
    yes = frame[frame["prediction"] == "yes"]
    write_again(folder / "records/again.parquet", yes, condition="sample9-seed0", prediction="no", latency_s=90.0)
    return folder


@pytest.fixture(scope="module")
def scored(study: Path) -> Path:
    models = toy_models()
    models["merge_action"] = replace(models["merge_action"], model=Hasty("merge_action"))
    path = write_toy(study)
    values = yaml.safe_load(path.read_text())
    values["source"]["volumes"]["same_place_nm"] = SAME_PLACE_NM
    path.write_text(yaml.safe_dump(values))
    options = ProofreadConfig(ablation=False, people_records=study / "records", people_data=str(study / "data"))
    lines: list[str] = []
    proofread(load_config(path, truth_needed=False), models, study / "out", study, options, lines.append)
    (study / "lines.txt").write_text("\n".join(lines))
    return study


def fall_of(*joined: tuple[int, ...]) -> float:
    """Compute by how many bits uniting segments and cutting segment 4 rightly lowers VI, from its definition."""
    made = arrays()
    both = (made["automatic"] > 0) & (made["proofread"] > 0)
    before, truth = made["automatic"][both].astype(int), made["proofread"][both].astype(int)
    after = np.where(before == 4, 1000 + truth, before)
    for group in joined:
        after = np.where(np.isin(after, group), group[0], after)

    def variation(objects: np.ndarray) -> float:
        n = len(truth)
        pairs = Counter(zip(objects.tolist(), truth.tolist(), strict=True))
        one, other = Counter(objects.tolist()), Counter(truth.tolist())
        return -sum(c / n * (np.log2(c / one[a]) + np.log2(c / other[b])) for (a, b), c in pairs.items())

    return variation(before) - variation(after)


def test_people_and_models_are_scored_on_the_same_corrections(scored: Path):
    found = json.loads((scored / "out/scores.json").read_text())["people_records"]
    by_people, by_models = found.pop("by_people"), found.pop("by_models")
    # found, missed, wrong, cut and kept are decisions; "otherwise" and "other cut" ask something else
    assert found == {
        "rows": len(MERGES) + len(SPLITS),
        "people": {"ada": 5, "bob": 3},
        "distance_nm": SAME_PLACE_NM,
        "decisions": 5,
        "ties": 1,
        "other_questions": 2,
        "seconds_median": 3.0,
    }
    assert by_people == pytest.approx(
        {
            "right": 3,
            "accepted": 3,
            "precision": 2 / 3,
            "recall": 2 / 3,
            "balanced_accuracy": (2 / 3 + 1 / 2) / 2,
            "gain_bits": fall_of((1, 2, 5)),
        }
    )
    assert by_models == pytest.approx(
        {
            "right": 4,
            "accepted": 4,
            "precision": 3 / 4,
            "recall": 1,
            "balanced_accuracy": (1 + 1 / 2) / 2,
            "gain_bits": fall_of((1, 2, 3, 5)),
        }
    )
    sentence = (
        "Of 5 corrections of the first round that people rated elsewhere, people are right about 3 and models about 4; "
        f"what people accept gains {fall_of((1, 2, 5)):.4f} bits, what models accept {fall_of((1, 2, 3, 5)):.4f}, in "
        "3.0 s an answer (median)"
    )
    assert sentence in (scored / "lines.txt").read_text().splitlines()
    assert f"<p>{sentence}.</p>" in (scored / "out/report/index.html").read_text()


def test_where_no_row_asks_about_a_correction_it_is_said_in_one_line(scored: Path, tmp_path: Path):
    rows = {"away": MERGES["away"], "elsewhere": MERGES["elsewhere"]}
    loaded = load_rows(str(write_rows(tmp_path / "data", "merge_action", rows)), "fly", "test")
    frame = read_results(scored / "records/person-ada/merge_action")
    frame = frame[frame["sample_id"].isin(loaded.dataset["sample_id"])]
    write_again(tmp_path / "records.parquet", frame)
    options = ProofreadConfig(
        ablation=False, people_records=tmp_path / "records.parquet", people_data=str(tmp_path / "data/merge_action")
    )
    lines: list[str] = []
    config = load_config(scored / "toy.yaml", truth_needed=False)
    proofread(config, toy_models(), tmp_path / "out", scored, options, lines.append)
    line = "None of 2 rows that people answered asks about a correction of the first round"
    assert line in lines
    found = json.loads((tmp_path / "out/scores.json").read_text())["people_records"]
    assert (found["decisions"], found["people"], found["by_people"]["precision"]) == (0, {}, None)
    assert f"<p>{line}.</p>" in (tmp_path / "out/report/index.html").read_text()


def test_records_that_cannot_be_used_are_one_line(scored: Path, tmp_path: Path, capsys):
    records, data = scored / "records", str(scored / "data")
    with pytest.raises(ConnectomeBenchError, match="holds no answers of people; connectomebench human-eval writes"):
        read_rated_rows(records / "model.parquet", data)
    frame = read_results(records / "person-ada/merge_action")
    write_again(tmp_path / "old.parquet", frame, dataset_fingerprint="0" * 32)
    with pytest.raises(ConnectomeBenchError, match=r"of another build than .*merge_action; give the dataset that was"):
        read_rated_rows(tmp_path / "old.parquet", data)
    arguments = ["proofread", "--config", str(scored / "toy.yaml"), "--models", "none", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--people", str(records)]) == 2
    assert "--people and --people-data belong together" in capsys.readouterr().err
    blind = tmp_path / "blind"
    blind.mkdir()
    config = load_config(write_toy(blind, truth=False), truth_needed=False)
    options = ProofreadConfig(people_records=records, people_data=data)
    with pytest.raises(ConnectomeBenchError, match="--people needs truth"):
        proofread(config, toy_models(), tmp_path / "out", blind, options)


@pytest.mark.parametrize(
    ("answers", "accepts"),
    [((True,), True), ((False,), False), ((True, False), None), ((True, False, False), False), ((True,) * 3, True)],
)
def test_the_majority_decides_and_a_tie_is_no_decision(answers: tuple[bool, ...], accepts: bool | None):
    said = {f"person-{number}": yes for number, yes in enumerate(answers)}
    row = RatedRow("a", "merge", frozenset({1, 2}), (0, 0, 0), True, "toy", said, ())
    assert row.accepts is accepts


def test_time_is_left_out_of_the_sentence_where_it_is_unknown():
    own = {"right": 1, "gain_bits": 0.5}
    line = people_sentence({"decisions": 1, "rows": 1, "seconds_median": None, "by_people": own, "by_models": own})
    assert line.endswith("what models accept 0.5000")
