from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import skops.io
from datasets import Dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.base import Answer
from connectomebench.models.grey_baseline import load_grey, train_grey
from connectomebench.models.probe import ProbeConfig, load_probe, train_probe


def balanced_accuracy(answers: list[Answer], dataset: Dataset) -> float:
    truth = np.array(dataset["answer"])
    predicted = np.array([a.prediction for a in answers])
    return float(np.mean([np.mean(predicted[truth == name] == name) for name in np.unique(truth)]))


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("features")


def test_learns_what_can_be_seen_and_encodes_it_once(train, test_rows, encoder, cache, tmp_path: Path) -> None:
    probe = train_probe(train, cache=cache, encoder=encoder, progress=False)
    assert probe.head.cross_validation["balanced_accuracy"] > 0.8
    answers = probe.predict(test_rows[:])
    assert balanced_accuracy(answers, test_rows) > 0.8
    for answer in answers:
        assert set(answer.probabilities) == {"no", "yes"}
        assert sum(answer.probabilities.values()) == pytest.approx(1)

    encoded = encoder.images
    again = train_probe(train, cache=cache, encoder=encoder, progress=False)
    assert again.predict(test_rows[:]) == answers
    assert encoder.images == encoded
    assert again.revision == probe.revision

    probe.save(tmp_path / "probe")
    loaded = load_probe(tmp_path / "probe", cache, encoder=encoder)
    assert loaded.predict(test_rows[:]) == answers
    assert loaded.revision == probe.revision
    saved = json.loads((tmp_path / "probe" / "config.json").read_text())
    assert saved["cross_validation"] == probe.head.cross_validation


def test_decoded_and_undecoded_rows_get_the_same_answers(train, test_rows, patches) -> None:
    probe = train_probe(train, encoder=patches, progress=False)
    few = test_rows.select(range(4))
    assert probe.predict(few[:]) == probe.predict({"images": few.with_format("arrow")[:]["images"].to_pylist()})
    assert probe.predict({"images": []}) == []


def test_grey_images_know_nothing(train, test_rows, encoder, tmp_path: Path) -> None:
    grey = train_grey(train, encoder=encoder, progress=False)
    assert encoder.images == 1
    answers = grey.predict(test_rows[:])
    assert balanced_accuracy(answers, test_rows) == 0.5
    assert len({a.probabilities["yes"] for a in answers}) == 1
    assert answers[0].probabilities["yes"] == pytest.approx(0.5, abs=0.02)
    assert grey.probe.head.cross_validation["balanced_accuracy"] == 0.5
    grey.save(tmp_path)
    assert load_grey(tmp_path, encoder=encoder).predict(test_rows[:]) == answers
    with pytest.raises(ConnectomeBenchError, match="holds a grey of format 1, not a probe"):
        load_probe(tmp_path, encoder=encoder)


@pytest.mark.parametrize("head", ["logistic", "mlp"])
def test_saved_probes_are_never_pickles(train, test_rows, patches, tmp_path: Path, head) -> None:
    config = ProbeConfig(head=head, c_grid=(0.1,))
    probe = train_probe(train, config, encoder=patches, progress=False)
    probe.save(tmp_path)
    files = sorted(p for p in tmp_path.iterdir())
    assert [f.name for f in files] == ["config.json", "head.skops"]
    assert all(b"cpickle" not in f.read_bytes() and not f.read_bytes().startswith(b"\x80") for f in files)
    loaded = load_probe(tmp_path, encoder=patches)
    assert loaded.predict(test_rows[:]) == probe.predict(test_rows[:])
    assert loaded.config == config


def test_revision_follows_settings_and_training_data(train, patches) -> None:
    config = ProbeConfig(c_grid=(0.1,))

    def revision(rows: Dataset, settings: ProbeConfig) -> str:
        return train_probe(rows, settings, encoder=patches, progress=False).revision

    revisions = [revision(train, config), revision(train, replace(config, pooling="max"))]
    revisions += [revision(train.select(range(28)), config), revision(train, replace(config, seed=1))]
    revisions += [revision(train, replace(config, scale_floor=0.0))]
    assert len(set(revisions)) == 5
    assert revision(train, config) == revisions[0]


def test_probes_of_before_the_floor_stay_as_they_were(train, patches, tmp_path: Path) -> None:
    before = train_probe(train, ProbeConfig(c_grid=(0.1,), scale_floor=0.0), encoder=patches, progress=False)
    before.save(tmp_path)
    assert "scale_floor" not in json.loads((tmp_path / "config.json").read_text())["config"]
    loaded = load_probe(tmp_path, encoder=patches)
    assert loaded.config == before.config and loaded.revision == before.revision


class Elsewhere:
    """A class that no saved probe may hold."""


def test_folders_that_are_not_a_sound_probe_are_refused(train, patches, tmp_path: Path) -> None:
    good = tmp_path / "good"
    train_probe(train, ProbeConfig(c_grid=(0.1,)), encoder=patches, progress=False).save(good)

    def broken(name: str) -> Path:
        return Path(shutil.copytree(good, tmp_path / name))

    with pytest.raises(ConnectomeBenchError, match=r"not a saved probe: config\.json is missing"):
        load_probe(tmp_path / "absent", encoder=patches)
    cut = broken("cut")
    (cut / "head.skops").write_bytes((good / "head.skops").read_bytes()[:-9])
    with pytest.raises(ConnectomeBenchError, match="does not belong"):
        load_probe(cut, encoder=patches)

    foreign = broken("foreign")
    skops.io.dump(Elsewhere(), foreign / "head.skops")
    config = json.loads((foreign / "config.json").read_text())
    config["head_sha256"] = hashlib.sha256((foreign / "head.skops").read_bytes()).hexdigest()
    (foreign / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConnectomeBenchError, match=r"not allowed.*Elsewhere"):
        load_probe(foreign, encoder=patches)

    patches.revision = "2"
    with pytest.raises(ConnectomeBenchError, match="revision 1, not on patches 2"):
        load_probe(good, encoder=patches)


def test_rows_with_other_views_are_refused(train, patches) -> None:
    probe = train_probe(train, ProbeConfig(c_grid=(0.1,)), encoder=patches, progress=False)
    images = train[0]["images"]
    with pytest.raises(ConnectomeBenchError, match="trained on 2 images per row and got 3"):
        probe.predict({"images": [[*images, images[0]]]})
    with pytest.raises(ConnectomeBenchError, match="no column 'images'"):
        probe.predict({"question": ["?"]})


def test_settings_and_columns_are_checked(train, patches) -> None:
    with pytest.raises(ConnectomeBenchError, match="folds is 1"):
        ProbeConfig(folds=1)
    with pytest.raises(ConnectomeBenchError, match="c_grid"):
        ProbeConfig(c_grid=())
    with pytest.raises(ConnectomeBenchError, match="scale_floor is inf"):
        ProbeConfig(scale_floor=float("inf"))
    with pytest.raises(ConnectomeBenchError, match="scale_floor is -1"):
        ProbeConfig(scale_floor=-1)
    with pytest.raises(ConnectomeBenchError, match="lacks the columns group"):
        train_probe(train.remove_columns("group"), encoder=patches, progress=False)
    with pytest.raises(ConnectomeBenchError, match="no class token"):
        train_probe(train, ProbeConfig(pooling="cls"), encoder=patches, progress=False)
    with pytest.raises(ConnectomeBenchError, match="no rows"):
        train_probe(train.select([]), encoder=patches, progress=False)
