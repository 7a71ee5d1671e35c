from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from stored_rows import row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import get_task
from connectomebench.dataset.schema import features
from connectomebench.evaluation.cue_scores import predict_answers, score_cue, score_cues
from connectomebench.models.cues import (
    CUES,
    GREY_BINS,
    RING_NAMES,
    RINGS,
    cue_features,
    cues_of,
    ring_features,
)
from connectomebench.rendering.colours import BACKGROUND, BLUE, EM_OUTLINE, ORANGE
from connectomebench.rendering.silhouette_features import CENTRES, SILHOUETTE_NAMES, silhouette_features

SIZE = 128


def picture(*shapes: tuple[tuple[int, int, int], tuple[int, int, int, int]]) -> Image.Image:
    image = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    for colour, box in shapes:
        ImageDraw.Draw(image).rectangle(box, fill=colour)
    return image


def silhouettes(image: Image.Image) -> dict[str, float]:
    return dict(zip(SILHOUETTE_NAMES, silhouette_features(image).tolist(), strict=True))


def stored(image: Image.Image) -> dict[str, object]:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return {"bytes": stream.getvalue(), "path": None}


def rows_with(
    draw: Callable[[str, np.random.Generator], Image.Image],
    count: int,
    seed: int,
    task: str = "merge_action",
) -> Dataset:
    """Whole stored rows of a task whose pictures depend on the answer."""
    random = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        answer = ("no", "yes")[number % 2]
        made = row(1000 * seed + number, answer, task)
        made["images"] = [stored(draw(answer, random)) for _ in get_task(task).views]
        made["group"] = f"g{seed}-{number // 3}"
        rows.append(made)
    schema = features(get_task(task))
    return Dataset(pa.Table.from_pylist(rows, schema=schema.arrow_schema))


def pieces(answer: str, random: np.random.Generator) -> Image.Image:
    """Blue and orange of equal area; blue in two pieces where the answer is no."""
    x, y = (int(c) for c in random.integers(4, 30, 2))
    apart = 0 if answer == "yes" else 12
    blue = [(BLUE, (x, y, x + 19, y + 39)), (BLUE, (x + 20 + apart, y, x + 39 + apart, y + 39))]
    return picture(*blue, (ORANGE, (x + 60, y + 50, x + 79, y + 89)))


def test_silhouettes_of_simple_shapes() -> None:
    values = silhouettes(picture((BLUE, (10, 10, 29, 29)), (BLUE, (60, 60, 69, 69)), (ORANGE, (30, 10, 39, 29))))
    assert (values["blue_pieces"], values["orange_pieces"], values["any_pieces"]) == (2, 1, 2)
    assert values["blue_area"] == pytest.approx(500 / SIZE**2)
    assert values["any_area"] == pytest.approx(values["blue_area"] + values["orange_area"])
    assert values["blue_holes"] == values["any_holes"] == 0
    ring = picture((ORANGE, (20, 20, 100, 100)), (BACKGROUND, (40, 40, 80, 80)))
    assert silhouettes(ring)["orange_holes"] == 1 and silhouettes(ring)["orange_within_0.1"] == 0
    # blue fills the hole: it is one for orange, none for both together
    filled = silhouettes(picture((ORANGE, (20, 20, 100, 100)), (BLUE, (40, 40, 80, 80))))
    assert (filled["orange_holes"], filled["any_holes"], filled["any_pieces"]) == (1, 0, 1)


@settings(deadline=None, max_examples=25)
@given(half=st.integers(3, 60))
def test_share_at_the_centre_is_that_of_the_pixels(half: int) -> None:
    box = (SIZE // 2 - half, SIZE // 2 - half, SIZE // 2 + half - 1, SIZE // 2 + half - 1)
    values = silhouettes(picture((BLUE, box)))
    offsets = np.arange(-half, half) + 0.5
    inside = np.hypot(offsets[:, None], offsets) / SIZE
    for radius in CENTRES:
        assert values[f"blue_within_{radius:g}"] == pytest.approx((inside < radius).mean(), abs=1e-6)


def test_specks_do_not_count_as_pieces() -> None:
    assert silhouettes(picture((BLUE, (10, 10, 40, 40)), (BLUE, (90, 90, 90, 90))))["blue_pieces"] == 1


def test_rings_count_grey_and_leave_the_outline_out() -> None:
    image = Image.new("RGB", (SIZE, SIZE), (250, 250, 250))
    middle = SIZE // 2
    reach = int(RINGS[1] * SIZE) + 1
    ImageDraw.Draw(image).rectangle((middle - reach, middle - reach, middle + reach, middle + reach), fill=(10, 10, 10))
    values = ring_features(image).reshape(len(RINGS) - 1, GREY_BINS)
    assert values[0, 0] == 1 and values[-1, -1] == 1
    assert np.allclose(values.sum(axis=1), 1)
    ImageDraw.Draw(image).rectangle((0, 0, SIZE, middle - 8), fill=EM_OUTLINE)
    again = ring_features(image).reshape(len(RINGS) - 1, GREY_BINS)
    assert again[-1, -1] == 1 and len(RING_NAMES) == again.size


def test_cues_fit_the_views_of_a_task() -> None:
    meshes = [cue.name for cue in cues_of(get_task("merge_action").views)]
    assert "slice" not in meshes and {"silhouette", "metadata", "grey"} <= set(meshes)
    both = cues_of(get_task("endpoint_error_identification_with_em").views)
    assert [cue.name for cue in both] == [cue.name for cue in CUES]


def test_every_cue_names_its_numbers() -> None:
    rows = rows_with(pieces, 4, 1, "endpoint_error_identification_with_em")
    for cue in CUES:
        names, values = cue_features(rows, cue)
        assert values.shape == (len(rows), len(names)) and np.isfinite(values).all()
        assert len(set(names)) == len(names)


def test_metadata_sees_ids_and_files_but_no_truth() -> None:
    rows = rows_with(pieces, 6, 2)
    names, values = cue_features(rows, next(c for c in CUES if c.name == "metadata"))
    of = {name: values[:, k] for k, name in enumerate(names)}
    assert of["front_bytes"].tolist() == [len(r["images"][0]["bytes"]) for r in _raw(rows)]
    assert of["segments"].tolist() == [2.0] * 6
    # all that says what is true is another: nothing changes
    told = rows.map(lambda r: {"answer": "no", "label": 0, "body_ids": [5], "edit_id": None, "group": "g"})
    assert (cue_features(told, next(c for c in CUES if c.name == "metadata"))[1] == values).all()


def _raw(rows: Dataset) -> Sequence[dict]:
    return rows.with_format("arrow")[:].to_pylist()


def test_a_cue_that_decides_scores_high_and_the_others_do_not() -> None:
    train, test = rows_with(pieces, 90, 3), rows_with(pieces, 60, 4)
    scores = {score.cue: score for score in score_cues(train, test)}
    assert scores["one_piece"].estimate.value == 1.0 and scores["silhouette"].estimate.lower > 0.9
    assert scores["grey"].estimate.value == 0.5
    assert scores["metadata"].estimate.lower > 0.55  # ids follow the answer in these rows
    assert scores["trivial"].estimate.lower < 0.55  # areas are equal
    found = scores["silhouette"]
    assert (found.estimate.n, found.estimate.n_groups, found.n_train) == (60, 20, 90)
    assert found.numbers == 3 * len(SILHOUETTE_NAMES) and not found.inherent


def test_an_inherent_cue_is_named_and_scores_repeat(tmp_path) -> None:
    def dark(answer: str, random: np.random.Generator) -> Image.Image:
        image = Image.new("RGB", (64, 64), (200, 200, 200))
        pen = ImageDraw.Draw(image)
        pen.point((int(random.integers(64)), 0), fill=(0, 0, 0))
        if answer == "yes":
            pen.rectangle((30, 30, 34, 34), fill=(20, 20, 20))
        return image

    task = "endpoint_error_identification_with_em"
    train, test = rows_with(dark, 40, 5, task), rows_with(dark, 20, 6, task)
    cue = next(c for c in CUES if c.name == "slice")
    first = score_cue(cue, train, test, tmp_path)
    assert first.inherent and first.estimate.value == 1.0
    assert score_cue(cue, train, test, tmp_path) == first


def test_unusable_rows_are_refused_in_one_line() -> None:
    rows = rows_with(pieces, 4, 7)
    silhouette = next(c for c in CUES if c.name == "silhouette")
    with pytest.raises(ConnectomeBenchError, match="no column 'views'"):
        cue_features(rows.remove_columns("views"), silhouette)
    with pytest.raises(ConnectomeBenchError, match="no rows"):
        cue_features(rows.select([]), silhouette)
    with pytest.raises(ConnectomeBenchError, match="no rows"):
        next(score_cues(rows, rows.select([])))
    with pytest.raises(ConnectomeBenchError, match="one answer only"):
        predict_answers(np.zeros((3, 1)), ["no"] * 3, np.zeros((1, 1)))
