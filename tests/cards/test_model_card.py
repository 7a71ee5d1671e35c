"""Cards of models: every number is that of the records, and what a reader must not miss is said."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from connectomebench.cards import calibration_plot as drawing
from connectomebench.cards.calibration_plot import calibration_figure
from connectomebench.cards.model_card import KINDS, model_card
from connectomebench.cards.model_results import METRIC_NAMES, TABLES, evaluations
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.card_template import estimate_text
from connectomebench.dataset.rows import DataRecord
from connectomebench.evaluation.calibration import expected_calibration_error
from connectomebench.evaluation.results import METRICS, read_results, result_path, summarise, write_results
from connectomebench.models.model_record import ModelRecord, read_record, write_record
from connectomebench.models.recalibration import Recalibration
from connectomebench.rendering.colours import BLUE

TASK, REPO, DATASET = "merge_action", "brains/merge-probe", "brains/merge_action"
SOURCE = {
    "name": "minnie65",
    "version": "1300",
    "license": "cc-by-4.0",
    "citation": "Someone | else (2025).",
    "simulated_errors": False,
    "simulated_em": False,
}


def data(species: str = "mouse", **other: Any) -> DataRecord:
    rows = {"no": 31, "yes": 29}
    fields = {"repo": DATASET, "revision": "c" * 40, "fingerprint": f"data-{species}", "rows": rows, "source": SOURCE}
    return DataRecord(**{"task": TASK, "species": species, "partition": "train", **fields, **other})


RECORD = ModelRecord(
    kind="probe",
    name="probe",
    revision="r1",
    task=TASK,
    base_model="google/siglip2",
    base_revision="b" * 40,
    config={"pooling": "mean", "c_grid": (0.1, 1.0), "cache": "/somewhere/private/vectors"},
    trained_on=(data(),),
    code_version="0.1.0",
    versions={"connectomebench": "0.1.0", "scikit-learn": "1.9.1"},
)


def answers(species: str, partition: str = "test", n: int = 36, **other: Any) -> list[dict[str, Any]]:
    """Records with noisy probabilities, two rows a group, one reply that could not be parsed."""
    rng = np.random.default_rng(n)
    records = []
    for i in range(n):
        answer = ("no", "yes")[i % 2]
        p = float(np.clip(rng.normal(0.65 if answer == "yes" else 0.35, 0.2), 0, 1))
        records.append(
            {
                "sample_id": f"{species}-{partition}-{i}",
                "task": TASK,
                "species": species,
                "partition": partition,
                "condition": "default",
                "model": "probe",
                "model_revision": "r1",
                "dataset_fingerprint": f"data-{species}",
                "code_version": "0.1.0",
                "question": "?",
                "prediction": ("yes" if p > 0.5 else "no") if i else None,
                "probability": p,
                "answer": answer,
                "group": f"g{i // 2}",
                "latency_s": 0.25 + 0.01 * (i % 3),
                **other,
            }
        )
    return records


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Records on the species of training, test and train, and on another species, where replies cost something."""
    folder = tmp_path_factory.mktemp("results")
    for species, partition, more in (
        ("mouse", "test", {}),
        ("mouse", "train", {}),
        ("fly", "test", {"cost_usd": 0.002, "tokens": 300}),
    ):
        path = result_path(folder, "probe", TASK, species, partition)
        write_results(path, answers(species, partition, 36 if partition == "test" else 20, **more))
    return read_results(folder)


@pytest.fixture(scope="module")
def card(results: pd.DataFrame) -> ModelCard:
    return model_card(RECORD, results, REPO, {"calibration.png", "head.skops"})


def cells(text: str, start: str) -> list[str]:
    """Return the cells of the one table row that starts so."""
    rows = [line for line in text.splitlines() if line.startswith(f"| {start} |")]
    assert len(rows) == 1, (start, rows)
    return [part.strip() for part in rows[0].strip("|").split("|")]


def test_the_card_reads_back_and_says_what_the_record_says(card: ModelCard, tmp_path: Path) -> None:
    card.save(tmp_path / "README.md")
    again = ModelCard.load(tmp_path / "README.md")
    assert again.data.to_dict() == card.data.to_dict() == ModelCard(str(card)).data.to_dict()
    assert card.data.base_model == RECORD.base_model and card.data.datasets == [DATASET]
    assert (card.data.license, card.data.library_name) == ("cc-by-4.0", "sklearn")
    assert card.data.pipeline_tag == "image-classification"
    assert card.data.tags == ["connectomebench", TASK, "mouse", "probe"]
    for told in (get_task(TASK).question, "c_grid:\n- 0.1\n- 1.0", "0.1.0 with\nscikit-learn 1.9.1.", "b" * 40, "`r1`"):
        assert told in card.text
    row = cells(card.text, f"[{DATASET}](https://huggingface.co/datasets/{DATASET})")
    assert row[1:4] == ["c" * 40, "mouse", "minnie65 1300"]
    assert row[4:] == ["real", "train", "31 no, 29 yes", "data-mouse", "cc-by-4.0"]
    assert "- Someone | else (2025)." in card.text and "SIMULATED" not in card.text
    assert "](calibration.png)" in card.text
    assert "{{" not in card.text and "{%" not in card.text and "None" not in card.text and "nan" not in card.text
    assert "/somewhere/private" not in card.text and "…/vectors" in card.text


def test_tables_are_whole(card: ModelCard) -> None:
    lines = card.text.splitlines()
    tables = 0
    for i, line in enumerate(lines):
        if line.startswith("|---"):
            tables += 1
            rows = [lines[i - 1], *(row for row in lines[i : i + 4] if row.startswith("|"))]
            assert len(rows) >= 3 and {row.count("|") for row in rows} == {line.count("|")}
    assert tables == 3


def test_every_number_is_that_of_the_records(card: ModelCard, results: pd.DataFrame) -> None:
    index = {
        (r.dataset_config, r.dataset_split, r.metric_type): (r.metric_value, r.metric_name, r.dataset_type)
        for r in card.data.eval_results
    }
    assert len(index) == 3 * len(METRICS) and set(METRIC_NAMES) == {*METRICS, *TABLES["places"], *TABLES["masks"]}
    costs = card.text[card.text.index("### Cost") :]
    scores = card.text[: card.text.index("### Cost")]
    for s in summarise(results):
        row = cells(scores, f"{s.species} | {s.partition}")
        assert row[2:4] == [str(s.n), str(s.n_groups)] and row[9] == str(s.unparsed) == "1"
        assert row[4:9] == [estimate_text(e.value, e.lower, e.upper) for e in map(s.estimates.get, TABLES["exact"])]
        for name in METRICS:
            kind, words = METRIC_NAMES[name]
            e = s.estimates[name]
            value, told, dataset = index[s.species, s.partition, kind]
            assert value == pytest.approx(e.value) and dataset == (DATASET if s.species == "mouse" else TASK)
            assert told == f"{words}, 95% interval {e.lower:.3f} to {e.upper:.3f}, n = {e.n} in {e.n_groups} groups"
        paid = ["300 (n = 36)", "2 (n = 36)"] if s.species == "fly" else ["–", "–"]
        assert cells(costs, f"{s.species} | {s.partition}")[2:] == [f"0.26 (n = {s.n})", *paid]


def test_places_are_scored_by_place(tmp_path: Path) -> None:
    task = "endpoint_localization"
    truth = '{"answer":"0, 0, 0","right":[[0,0,0]],"nodes":[],"full_nm":500}'
    rows = answers("mouse", task=task, prediction="1250, 0, 0", answer=truth, probability=None)
    results = read_results(write_results(tmp_path / "r.parquet", rows))
    own = replace(RECORD, kind="node_probe", task=task, trained_on=(data(task=task),))
    card = model_card(own, results, REPO, {"head.skops"})
    assert cells(card.text[: card.text.index("### Cost")], "mouse | test")[2:7] == [
        "36",
        "18",
        "0.500 (0.500 to 0.500)",
        "0.000 (0.000 to 0.000)",
        "0",
    ]
    assert {r.metric_type: r.metric_value for r in card.data.eval_results} == {
        "place_score": 0.5,
        "place_hit_rate": 0.0,
    }
    assert "Place score: 1 for a place within 500 nm" in card.text and "Balanced accuracy" not in card.text


def test_what_makes_a_result_special_is_noted(card: ModelCard, results: pd.DataFrame) -> None:
    scores = card.text[: card.text.index("### Cost")]
    assert cells(scores, "mouse | test")[10] == ""
    assert cells(scores, "mouse | train")[10] == "rows it was trained on"
    assert cells(scores, "fly | test")[10] == "trained on another species"
    rebuilt = replace(RECORD, trained_on=(data(fingerprint="another"),))
    mice = results[results["species"] == "mouse"]
    assert all("another build" in e.note and e.trained_on is None for e in evaluations(mice, rebuilt))


def test_undefined_values_are_dashes_and_no_entries() -> None:
    rows = pd.DataFrame([{**a, "probability": None, "votes": None} for a in answers("mouse", n=6)])
    rows = rows.assign(latency_s=None, tokens=None, cost_usd=None)
    card = model_card(RECORD, rows, REPO, ())
    of_answers = {"balanced_accuracy", "precision", "recall", "f1", "false_positive_rate"}
    assert {r.metric_type for r in card.data.eval_results} == of_answers
    assert cells(card.text, "mouse | test")[5:9] == ["–"] * 4
    assert "Not measured." in card.text and "](calibration.png)" not in card.text


def ablated(results: pd.DataFrame) -> pd.DataFrame:
    """The same rows without images: every answer wrong."""
    return results.assign(condition="blank_images", prediction="yes", probability=0.9, votes=None)


def test_an_ablation_is_never_the_result_of_the_model(card: ModelCard, results: pd.DataFrame) -> None:
    both = pd.concat([ablated(results), results])
    assert str(model_card(RECORD, both, REPO, {"calibration.png", "head.skops"})) == str(card)
    assert calibration_figure(both) == calibration_figure(results)
    alone = model_card(RECORD, ablated(results), REPO, ())
    assert "Not evaluated" in alone.text and "model-index" not in alone.data.to_dict()


@pytest.mark.parametrize("none", [None, pd.DataFrame()])
def test_missing_results_are_told(none: pd.DataFrame | None) -> None:
    card = model_card(RECORD, none, REPO, {"calibration.png"})
    assert "Not evaluated" in card.text and "| unparsed |" not in card.text and "calibration.png" not in card.text
    assert "model-index" not in card.data.to_dict()


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("model", "other", "model 'other'"),
        ("model_revision", "r2", "model_revision 'r2'"),
        ("task", "split_action", "task 'split_action'"),
        ("dataset_fingerprint", "data-x", "mix the data data-fly and data-x"),
    ],
)
def test_results_of_something_else_are_refused(results: pd.DataFrame, column: str, value: str, told: str) -> None:
    frame = results[results["species"] == "fly"].reset_index(drop=True)
    frame.loc[0, column] = value
    with pytest.raises(ConnectomeBenchError, match=told):
        model_card(RECORD, frame, REPO, ())


def test_mixed_licences_and_simulated_data_are_told() -> None:
    fly = {**SOURCE, "license": "cc-by-nc-4.0", "simulated_errors": True, "simulated_em": True}
    record = replace(RECORD, trained_on=(data(), data("fly", source=fly, repo=None, revision=None)))
    card = model_card(record, None, REPO, ())
    assert card.data.license == "cc-by-nc-4.0" and "so the strictest applies" in card.text
    assert "cc-by-4.0, cc-by-nc-4.0" in card.text and "simulated" in card.data.tags
    assert "**Trained on SIMULATED errors.** In fly the" in card.text and "a local folder" in card.text
    assert "SIMULATED image data" not in card.text, "this task shows none"
    with_em = replace(record, task="endpoint_error_identification_with_em")
    assert "**Trained on SIMULATED image data.** In fly the" in model_card(with_em, None, REPO, ()).text
    unknown = replace(record, trained_on=(data(), data("fly", source={**SOURCE, "license": "gpl-3.0"})))
    card = model_card(unknown, None, REPO, ())
    assert card.data.license == "other" and "subject to the terms of all of them" in card.text


def test_each_kind_says_how_it_loads() -> None:
    wanted = {"adapter": "PeftModel.from_pretrained(base, ", "vlm": "AutoModelForImageTextToText", "probe": None}
    for kind, (library, what) in KINDS.items():
        card = model_card(replace(RECORD, kind=kind), None, REPO, ())
        assert card.data.library_name == library and what in card.text and f'load_model("{REPO}")' in card.text
        assert f"connectomebench evaluate --model {REPO} --dataset {DATASET} --species mouse" in card.text
        text = kind in ("adapter", "vlm")
        assert card.data.pipeline_tag == ("image-text-to-text" if text else "image-classification")
        assert ("AutoModelForImageTextToText" in card.text) == text and (wanted.get(kind) or "") in card.text
        assert ("PeftModel" in card.text) == (kind == "adapter")
        assert ("A yardstick" in card.text) == (kind in ("trivial", "grey"))


@pytest.mark.parametrize(
    ("base", "revision", "on_hub", "shown"),
    [
        ("org/name", "b" * 40, True, "[`org/name`](https://huggingface.co/org/name)"),
        ("org/name", None, True, "revision not recorded"),
        ("out/encoder", "0123456789abcdef", False, "`out/encoder`"),
        ("/data/lab/encoder", None, False, "`…/encoder`"),
        ("C:\\lab\\encoder", None, False, "`…/encoder`"),
        ("efficientnet_lite0", "5793", False, "`efficientnet_lite0`"),
        (None, None, False, "Made from no other model."),
    ],
)
def test_a_base_model_is_named_as_such_only_where_the_hub_has_it(
    base: str | None, revision: str | None, on_hub: bool, shown: str
) -> None:
    card = model_card(replace(RECORD, kind="adapter", base_model=base, base_revision=revision), None, REPO, ())
    assert (card.data.base_model == base) == (on_hub or base is None) and shown in card.text
    assert "/data/lab" not in card.text and "C:" not in card.text
    assert ("PeftModel" in card.text) == on_hub


def test_a_record_that_says_too_little_is_refused_and_an_odd_one_breaks_no_table(tmp_path: Path) -> None:
    with pytest.raises(ConnectomeBenchError, match="names no training data"):
        model_card(replace(RECORD, trained_on=()), None, REPO, ())
    source = {key: value for key, value in SOURCE.items() if key != "license"}
    with pytest.raises(ConnectomeBenchError, match="does not say the license of its mouse data"):
        model_card(replace(RECORD, trained_on=(data(source=source),)), None, REPO, ())
    odd = replace(RECORD, trained_on=(data(source={**SOURCE, "name": "a|b\nc"}),))
    assert "| mouse | a\\|b c 1300 | real |" in model_card(odd, None, REPO, ()).text, "a table stays whole"
    write_record(tmp_path, RECORD)
    assert str(model_card(read_record(tmp_path), None, REPO, ())) == str(model_card(RECORD, None, REPO, ()))


def test_the_plot_has_a_panel_a_partition_with_its_points_where_they_belong(results: pd.DataFrame) -> None:
    first = calibration_figure(results)
    assert calibration_figure(results) == first
    one = pd.DataFrame(
        [{**a, "probability": 0.7, "answer": ("no", "yes")[i % 4 == 0]} for i, a in enumerate(answers("mouse", n=40))]
    )
    for content, width in ((first, 3), (calibration_figure(one), 1)):
        with Image.open(io.BytesIO(content)) as picture:
            assert picture.format == "PNG" and picture.width == round(width * drawing.WIDTH * drawing.DPI)
            pixels = np.asarray(picture.convert("RGB"), np.int16)
    # all rows state 0.7, and a quarter of them is "yes"
    inches = np.array([drawing.LEFT + 0.7 * drawing.SQUARE, drawing.TITLES + 0.75 * drawing.SQUARE])
    spot = (inches * drawing.DPI).round().astype(int)
    blue = (np.abs(pixels - np.array(BLUE)).max(axis=2) < 40).astype(int)
    assert blue[spot[1] - 2 : spot[1] + 3, spot[0] - 2 : spot[0] + 3].all()
    square = blue[round(drawing.TITLES * drawing.DPI) : round((drawing.TITLES + drawing.SQUARE) * drawing.DPI)]
    assert square[:, : spot[0] - 14].sum() == square[:, spot[0] + 15 :].sum() == 0

    silent = calibration_figure(one.assign(probability=None))
    assert silent != calibration_figure(one)
    with pytest.raises(ConnectomeBenchError, match="no results to draw"):
        calibration_figure(results.iloc[:0])


def test_what_a_stored_calibration_does_is_measured_on_test_rows(results: pd.DataFrame) -> None:
    cooler = Recalibration("temperature", (2.0,), TASK, "mouse", "probe", "r1", "data-mouse", 100, 50)
    card = model_card(RECORD, results, REPO, [], recalibrations=(cooler,))
    assert "### Calibration" in str(card) and "### Calibration" not in str(model_card(RECORD, results, REPO, []))
    rows = [line for line in str(card).splitlines() if "mouse (100 rows)" in line]
    test = results[(results["partition"] == "test") & (results["condition"] == "default")]
    assert len(rows) == test["species"].nunique()
    for line in rows:
        species = line.split("|")[1].strip()
        known = test[(test["species"] == species) & test["probability"].notna()]
        truth = (known["answer"] == "yes").astype(int)
        for stated in (known["probability"], cooler.apply(known["probability"])):
            value = expected_calibration_error(stated, truth)
            assert f"{value:.3f}" in line
