from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.trivial_baseline import TrivialConfig, load_trivial, train_trivial
from connectomebench.rendering.colour_features import NAMES, image_features, trivial_features
from connectomebench.rendering.colours import (
    BACKGROUND,
    BLUE,
    EM_OUTLINE,
    EM_OUTSIDE,
    ORANGE,
    shade_table,
)


def rectangle(colour, width: int, height: int, size: int = 512, background=BACKGROUND) -> Image.Image:
    image = Image.new("RGB", (size, size), background)
    ImageDraw.Draw(image).rectangle((100, 80, 100 + width - 1, 80 + height - 1), fill=tuple(colour))
    return image


def measured(image: Image.Image) -> dict[str, float]:
    return dict(zip(NAMES, image_features(image).tolist(), strict=True))


@settings(deadline=None, max_examples=25)
@given(
    width=st.integers(8, 400),
    height=st.integers(8, 400),
    size=st.sampled_from([500, 512, 1024]),
    light=st.integers(0, 9),
)
def test_area_of_each_colour_at_any_shade(width: int, height: int, size: int, light: int) -> None:
    for colour, name, other in ((BLUE, "blue", "orange"), (ORANGE, "orange", "blue")):
        values = measured(rectangle(shade_table(colour, 10)[light], width, height, size))
        margin = 2 * size // 128
        assert abs(values[f"area_{name}"] - width * height / size**2) <= margin * (width + height) / size**2
        assert values[f"area_{other}"] == 0
        assert abs(values["area_background"] + values[f"area_{name}"] - 1) <= margin * (width + height) / size**2


def test_brightness_and_grey_tissue() -> None:
    values = measured(Image.new("L", (256, 256), 51))
    assert values["brightness_mean"] == pytest.approx(0.2)
    assert values["brightness_sd"] == pytest.approx(0, abs=1e-9)
    assert values["area_blue"] == values["area_orange"] == values["area_background"] == 0
    for shade in EM_OUTSIDE:
        assert measured(Image.new("RGB", (64, 64), shade))["area_orange"] == 0
    outlined = measured(rectangle(EM_OUTLINE, 128, 64, background=(90, 90, 90)))
    assert outlined["area_blue"] == pytest.approx(128 * 64 / 512**2, rel=0.05)


def test_names_follow_the_views() -> None:
    views = ["front", "em_xy"]
    names, values = trivial_features([rectangle(BLUE, 64, 32), Image.new("L", (64, 64))], views)
    assert len(names) == len(values) == len(views) * len(NAMES)
    assert values[names.index("front_area_blue")] == pytest.approx(64 * 32 / 512**2)
    assert values[names.index("em_xy_brightness_mean")] == 0
    with pytest.raises(ConnectomeBenchError, match="1 images for the views front, em_xy"):
        trivial_features([Image.new("L", (64, 64))], views)


def area_rows(rows_of, count: int, seed: int):
    """Rows whose answer is whether much or little is blue."""
    random = np.random.default_rng(seed)
    answers = ["yes", "no"] * (count // 2)
    base = rows_of(answers, [f"g{seed}-{i // 3}" for i in range(count)], size=32)
    pictures = [
        [rectangle(BLUE, int(random.integers(100, 130) - 40 * (a == "no")), 75, 256) for _ in range(2)] for a in answers
    ]
    features = base.features
    columns = {name: list(base[name]) for name in base.column_names} | {"images": pictures}
    return type(base).from_dict(columns, features=features)


def test_learns_area_and_loads_again(rows_of, tmp_path: Path) -> None:
    train, new = area_rows(rows_of, 60, 0), area_rows(rows_of, 30, 1)
    model = train_trivial(train, TrivialConfig(folds=2), tmp_path / "cache", progress=False)
    answers = model.predict(new[:])
    assert np.mean([a.prediction == truth for a, truth in zip(answers, new["answer"], strict=True)]) > 0.9
    assert {c["head"] for c in model.head.cross_validation["candidates"]} == {"logistic", "forest"}
    model.save(tmp_path / "model")
    loaded = load_trivial(tmp_path / "model")
    assert loaded.predict(new[:]) == answers
    assert loaded.revision == model.revision


def test_a_forest_survives_saving_and_a_tampered_one_is_refused(rows_of, tmp_path: Path) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.pipeline import Pipeline

    from connectomebench.models.head_io import load_head, save_head
    from connectomebench.models.heads import HeadCandidate, fit_head

    random = np.random.default_rng(0)
    features = random.normal(size=(80, 4))
    answers = np.where(features[:, 0] * features[:, 1] > 0, "yes", "no")
    forest = [HeadCandidate({}, Pipeline([("head", RandomForestClassifier(5, random_state=0))]))]
    head = fit_head(features, answers, [str(i) for i in range(80)], forest)
    save_head(tmp_path, head, "trivial", {})
    loaded, _ = load_head(tmp_path, "trivial")
    np.testing.assert_array_equal(loaded.probabilities(features), head.probabilities(features))
    head.pipeline[-1].estimators_[2].tree_.feature[0] = 2**30
    save_head(tmp_path, head, "trivial", {})
    with pytest.raises(ConnectomeBenchError, match="damaged decision tree"):
        load_head(tmp_path, "trivial")
