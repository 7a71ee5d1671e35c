"""Space on disk, and a triangle that is drawn."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from species_stand_in import by_name

from connectomebench.doctor.machine import MB_PER_ROW, space, try_drawing

Usage = namedtuple("Usage", "total used free")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(free_gb=st.floats(0, 100))
@pytest.mark.parametrize("extra", ["cave", "volumes"])
def test_space_on_disk(tmp_path: Path, extra: str, free_gb: float) -> None:
    free = int(free_gb * 1e9)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 10**12 - free, free))
        found = by_name(space(tmp_path / "not" / "there" / "yet", extra))
    samples = free / (MB_PER_ROW * 1e6)
    # four tasks of 512 test samples, a fifth of all
    assert found["disk"].mark == ("ok" if samples >= 10240 else "warning" if samples >= 1000 else "missing")
    assert ("cache" in found) == (extra == "cave")
    if extra == "cave":
        assert found["cache"].mark == ("ok" if free - 10240 * MB_PER_ROW * 1e6 >= 20e9 else "warning")
    assert f"{free / 1e9:.1f} GB free" in found["disk"].found and not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file stands here")
    found = by_name(space(tmp_path / "out", "cave"))
    assert found["disk"].mark == found["cache"].mark == "missing" and "cannot be written" in found["disk"].found


def test_a_triangle_is_drawn() -> None:
    tried = try_drawing()
    # half of the square that the triangle's corners span, 0.4 of the view long each way
    assert tried["drawn"] == pytest.approx(0.08, abs=0.01) and tried["engine"] in ("cpu", "octarine")
