from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models import features as module
from connectomebench.models.encoders import pool
from connectomebench.models.features import encoder_store, stored_rows
from connectomebench.models.images import decode


def images_of(dataset: Dataset) -> int:
    return len({image.tobytes() for row in dataset["images"] for image in row})


def test_vectors_are_joined_in_the_order_of_the_views(train: Dataset, patches) -> None:
    vectors = encoder_store(patches, "mean", None).rows(stored_rows(train))
    assert vectors.shape == (len(train), 2 * 3) and vectors.dtype == np.float32
    expected = [pool(patches.encode([decode(i)]), "mean", patches)[0] for i in train[5]["images"]]
    np.testing.assert_allclose(vectors[5], np.concatenate(expected), rtol=1e-6)


def test_nothing_is_encoded_twice(train: Dataset, patches, tmp_path: Path) -> None:
    rows = stored_rows(train)
    first = encoder_store(patches, "mean", tmp_path).rows(rows)
    assert patches.images == images_of(train)
    second = encoder_store(patches, "mean", tmp_path).rows(rows)
    assert patches.images == images_of(train)
    np.testing.assert_array_equal(first, second)
    encoder_store(patches, "max", tmp_path).rows(rows)
    assert patches.images == 2 * images_of(train)


def test_decoded_rows_give_the_same_vectors(train: Dataset, patches) -> None:
    store = encoder_store(patches, "mean", None)
    np.testing.assert_array_equal(store.rows(stored_rows(train)), store.rows(lambda: train["images"]))


def test_equal_images_are_encoded_once(train: Dataset, patches) -> None:
    doubled = train.select([0, 0, 0, 1])
    vectors = encoder_store(patches, "mean", None).rows(stored_rows(doubled))
    assert patches.images == 4
    np.testing.assert_array_equal(vectors[0], vectors[2])


@pytest.mark.parametrize("keep", [0, 40, 0.5, 0.98])
def test_files_cut_short_are_made_again(train: Dataset, patches, tmp_path: Path, keep: float) -> None:
    rows = stored_rows(train)
    whole = encoder_store(patches, "mean", tmp_path).rows(rows)
    (path,) = tmp_path.glob("*/*.npz")
    content = path.read_bytes()
    path.write_bytes(content[: int(keep * len(content)) if keep < 1 else int(keep)])
    np.testing.assert_array_equal(encoder_store(patches, "mean", tmp_path).rows(rows), whole)
    assert patches.images == 2 * images_of(train)
    np.testing.assert_array_equal(encoder_store(patches, "mean", tmp_path).rows(rows), whole)
    assert patches.images == 2 * images_of(train)


def test_damage_inside_the_vectors_is_found(train: Dataset, patches, tmp_path: Path) -> None:
    rows = stored_rows(train)
    whole = encoder_store(patches, "mean", tmp_path).rows(rows)
    (path,) = tmp_path.glob("*/*.npz")
    content = bytearray(path.read_bytes())
    place = content.index(b"vectors.npy") + 400
    content[place] ^= 0xFF
    path.write_bytes(bytes(content))
    np.testing.assert_array_equal(encoder_store(patches, "mean", tmp_path).rows(rows), whole)


class Killed(BaseException):
    """Stands for the end of the process: nothing in the library catches it."""


def test_a_run_that_is_cut_off_keeps_what_it_finished(
    rows_of, patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK", 32)
    dataset = rows_of(["yes", "no"] * 19, [str(i) for i in range(38)])
    assert images_of(dataset) > 2 * module.CHUNK

    def stopped():
        for number, row in enumerate(stored_rows(dataset)()):
            if number == 36:
                raise Killed
            yield row

    with pytest.raises(Killed):
        encoder_store(patches, "mean", tmp_path).rows(stopped)
    done = patches.images
    assert done == 2 * module.CHUNK
    resumed = encoder_store(patches, "mean", tmp_path).rows(stored_rows(dataset))
    assert patches.images == images_of(dataset)
    np.testing.assert_array_equal(resumed, encoder_store(patches, "mean", None).rows(stored_rows(dataset)))
    assert len(list(tmp_path.glob("*/*.npz"))) == 3


def test_rows_that_differ_in_their_number_of_images_are_refused(train: Dataset, patches) -> None:
    images = train[0]["images"]
    with pytest.raises(ConnectomeBenchError, match="same number of images, found 1 and 2"):
        encoder_store(patches, "mean", None).rows(lambda: [images, images[:1]])
    with pytest.raises(ConnectomeBenchError, match="no rows"):
        encoder_store(patches, "mean", None).rows(lambda: [])


def test_features_that_do_not_fit_in_memory_are_in_a_file_that_is_gone_afterwards(
    train: Dataset, patches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = stored_rows(train)
    whole = encoder_store(patches, "mean", tmp_path).rows(rows)
    assert not isinstance(whole, np.memmap)
    monkeypatch.setattr("connectomebench.models.streamed_fit.IN_MEMORY_BYTES", whole.nbytes - 1)
    before = sorted(tmp_path.rglob("*"))
    mapped = encoder_store(patches, "mean", tmp_path).rows(rows)
    assert isinstance(mapped, np.memmap) and mapped.dtype == np.float32
    np.testing.assert_array_equal(mapped, whole)
    assert patches.images == images_of(train) and sorted(tmp_path.rglob("*")) == before
    assert not isinstance(encoder_store(patches, "mean", None).rows(rows), np.memmap)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10))
    with pytest.raises(ConnectomeBenchError, match=r"GB of features do not fit in the 0.0 GB of .*; free space there"):
        encoder_store(patches, "mean", tmp_path).rows(rows)


def test_an_encoding_that_was_stopped_goes_on_where_it_was(train: Dataset, patches, tmp_path: Path) -> None:
    """Every file of 256 images is kept, whatever happens later."""

    def stopped():
        for number, row in enumerate(stored_rows(train)()):
            if number == len(train) // 2:
                raise KeyboardInterrupt
            yield row

    whole = encoder_store(patches, "mean", None).rows(stored_rows(train))
    patches.images = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK", 4)
        with pytest.raises(KeyboardInterrupt):
            encoder_store(patches, "mean", tmp_path).rows(stopped)
        done = patches.images
        assert 0 < done < images_of(train)
        np.testing.assert_array_equal(encoder_store(patches, "mean", tmp_path).rows(stored_rows(train)), whole)
    assert patches.images == images_of(train)
