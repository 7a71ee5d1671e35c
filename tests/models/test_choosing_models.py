"""Models that choose among candidates: trained, saved, loaded and evaluated as any other; and cues of such rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from classified_rows import CHOICES, one_thread, write_backbone, write_choice_rows, write_classified_rows
from quick_heads import no_forests

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.loading import load_rows
from connectomebench.evaluation.dataset_check import as_text, check_dataset
from connectomebench.evaluation.evaluator import EvalData, evaluate
from connectomebench.evaluation.model_spec import ModelSpec
from connectomebench.evaluation.results import read_results
from connectomebench.evaluation.statistics import balanced_accuracy
from connectomebench.models.choices import ChoiceModel, train_any
from connectomebench.models.model_record import FILE_NAME, read_record
from connectomebench.models.registry import load_model, save_head_model
from connectomebench.models.trivial_baseline import train_trivial


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Iterator[None]:
    with no_forests():
        yield


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("choices")
    write_choice_rows(folder)
    return folder


def rows(home: Path, partition: str):
    return load_rows(str(home / CHOICES), "fly", partition, cache=home / "cache")


def right_share(path: Path) -> float:
    frame = read_results(path)
    return balanced_accuracy(frame["prediction"].tolist(), frame["answer"].tolist())


@pytest.fixture(scope="module")
def trained(home: Path) -> Path:
    train, validation = rows(home, "train"), rows(home, "validation")
    model = train_any(train.dataset, validation.dataset, lambda part: train_trivial(part, progress=False))
    assert isinstance(model, ChoiceModel)
    save_head_model(model, home / "trivial", train.data)
    return home / "trivial"


def test_a_head_that_judges_candidates_comes_back_and_chooses(home: Path, trained: Path) -> None:
    model, record = load_model(str(trained)), read_record(trained)
    assert (record.task, record.revision, record.name) == (CHOICES, model.revision, "trivial")
    path = evaluate(
        ModelSpec(str(trained)), EvalData(str(home / CHOICES), "fly"), home / "results", echo=lambda _: None
    )
    assert right_share(path) > 0.9
    frame = read_results(path)
    assert frame["probability"].between(0, 1).all() and frame["probability"].notna().all()
    # another weight is another model
    changed = json.loads((trained / FILE_NAME).read_text())
    changed["config"]["none_weight"] *= 2
    other = home / "changed"
    other.mkdir()
    for file in trained.iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    (other / FILE_NAME).write_text(json.dumps(changed))
    with pytest.raises(ConnectomeBenchError, match="does not belong to the other files"):
        load_model(str(other))


def test_a_model_of_pairs_chooses_with_a_weight_from_validation(home: Path) -> None:
    pairs = load_rows(str(write_classified_rows(home)), "fly", "train", cache=home / "cache")
    save_head_model(train_trivial(pairs.dataset, progress=False), home / "pairs", pairs.data)
    spec, data = ModelSpec(str(home / "pairs"), name="pairs"), EvalData(str(home / CHOICES), "fly")
    assert right_share(evaluate(spec, data, home / "results", echo=lambda _: None)) > 0.9


def test_an_image_classifier_judges_candidates(home: Path, tmp_path: Path) -> None:
    from connectomebench.models.image_classifier_init import ImageClassifierConfig
    from connectomebench.models.image_classifier_training import train_image_classifier

    write_backbone(home / "tiny-resnet", "resnet")
    settings = ImageClassifierConfig(str(home / "tiny-resnet"), input_px=32, epochs=4, batch_size=8, learning_rate=1e-2)
    train, validation, test = (rows(home, name) for name in ("train", "validation", "test"))
    with one_thread():
        model = train_image_classifier(train.dataset, validation.dataset, [train.data], settings, progress=False)
        model.save(tmp_path / "model")
        loaded = load_model(str(tmp_path / "model"))
        answers = loaded.predict(test.dataset[:])
    assert answers == model.predict(test.dataset[:])
    assert (loaded.revision, read_record(tmp_path / "model").task) == (model.revision, CHOICES)
    assert balanced_accuracy([one.prediction for one in answers], test.dataset["answer"]) > 0.6


def test_cues_compare_the_candidates_and_letters_say_nothing(home: Path) -> None:
    check = check_dataset(str(home / CHOICES), "fly", rows_cache=home / "cache")
    scores = {one.cue: one for one in check.scores}
    assert set(scores) == {"position", "largest", "nearest", "trivial", "one_piece", "silhouette", "grey", "metadata"}
    assert scores["largest"].estimate.value > 0.9 and scores["trivial"].estimate.value > 0.9
    assert scores["position"].estimate.lower < 0.3
    assert check.matched == () and scores["nearest"].inherent and not scores["largest"].inherent
    # chance is one in as many answers as there are
    assert check.limit(0.5) == pytest.approx(0.2) and check.limit(1.0) == pytest.approx(1.0)
    text = as_text(check, 0.55)
    assert "FAIL" in text and "0.28" in text
