"""Which samples the report shows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from report_run import SPECIES, TASK_NAMES, png

from connectomebench.report.samples import summarise_dataset


def test_typical_sample_is_neither_empty_nor_full(tmp_path: Path) -> None:
    """Of one nearly empty picture, one nearly full one and several alike, one of the latter is taken."""
    import io

    import datasets
    from PIL import Image
    from report_run import rows, write_dataset

    task = TASK_NAMES[0]
    write_dataset(tmp_path / task, task, 1, datasets)
    path = tmp_path / task / SPECIES / "test-00000-of-00001.parquet"
    odd = set()
    changed = rows(task, "test", 3)
    for answer in ("no", "yes"):
        for row, share in zip([r for r in changed if r["answer"] == answer], (0.0, 1.0), strict=False):
            stream = io.BytesIO()
            Image.new("RGB", (96, 96), (0, 114, 178) if share else "white").save(stream, "PNG")
            row["images"] = [{"bytes": stream.getvalue(), "path": None}] * 3
            odd.add(row["sample_id"])
    features = datasets.load_dataset("parquet", data_files=str(path), split="train").features
    datasets.Dataset.from_list(changed, features=features).to_parquet(path)
    summary = summarise_dataset(tmp_path / task, task, SPECIES)
    assert [s.answer for s in summary.samples] == ["no", "yes"]
    assert not odd & {s.sample_id for s in summary.samples}
    assert {s.partition for s in summary.samples} == {"test"}
    assert summary.origins == {"simulated": 112}


def test_pictures_of_the_fixture_show_what_they_say() -> None:
    from io import BytesIO

    from PIL import Image

    picture = np.asarray(Image.open(BytesIO(png(np.random.default_rng(0), ((0, 114, 178),), em=False))))
    assert {tuple(c) for c in picture.reshape(-1, 3).tolist()} == {(255, 255, 255), (0, 114, 178)}
