"""Scenes of a dataset's rows, in optional archives beside the rows (:mod:`connectomebench.dataset.repo_layout`).

``SPECIES/scenes-PARTITION-00000-of-00001.zip`` holds for each row ``SAMPLE_ID.glb``, what its views show, without any
id, and ``SAMPLE_ID-truth.glb``, a larger cube with the bodies that it really holds. Both are binary glTF
(:mod:`connectomebench.rendering.scene_file`). ``load_dataset`` does not read them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.dataset.repo_layout import scene_files

_SUFFIX = {"scene": ".glb", "truth": "-truth.glb"}
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest that an archive can state: the same scenes give the same bytes


@dataclass(frozen=True)
class RowScenes:
    """Scenes of one row.

    Attributes
    ----------
    sample_id
        Of the row.
    scene
        What its views show.
    truth
        What is really there.
    """

    sample_id: str
    scene: bytes
    truth: bytes


def scenes_path(folder: Path, species: str, partition: str) -> Path:
    """Return the path of the scenes of a partition; ``folder`` is that of the task."""
    return folder / species / f"scenes-{partition}-00000-of-00001.zip"


def write_scenes(path: Path, rows: Iterable[RowScenes]) -> int:
    """Write scenes as they come; return the number of rows. Nothing is left behind if it is interrupted."""
    n = 0
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for row in rows:
            for kind, content in (("scene", row.scene), ("truth", row.truth)):
                member = zipfile.ZipInfo(row.sample_id + _SUFFIX[kind], _EPOCH)
                archive.writestr(member, content, zipfile.ZIP_DEFLATED, 6)
            n += 1
    return n


class StoredScenes:
    """Scenes of all datasets in a folder, read one at a time.

    Parameters
    ----------
    folders
        Folders of one species of a task each; those without scenes are left out.

    Raises
    ------
    ConnectomeBenchError
        If an archive cannot be read.
    """

    def __init__(self, folders: Iterable[Path]) -> None:
        self._archive_of: dict[str, Path] = {}
        paths = sorted(
            {folder.parent / name for folder in folders for name in scene_files(folder.parent, folder.name, ["scenes"])}
        )
        for path in paths:
            try:
                with zipfile.ZipFile(path) as archive:
                    self._archive_of.update(dict.fromkeys(archive.namelist(), path))
            except (OSError, zipfile.BadZipFile) as error:
                raise ConnectomeBenchError(f"cannot read {path}: {error}; write the scenes again") from None

    def __contains__(self, sample_id: str) -> bool:
        return sample_id + _SUFFIX["scene"] in self._archive_of

    def get(self, sample_id: str, kind: Literal["scene", "truth"]) -> bytes | None:
        """Return the scene or the truth of a row; None where it has none."""
        member = sample_id + _SUFFIX[kind]
        if member not in self._archive_of:
            return None
        try:
            with zipfile.ZipFile(self._archive_of[member]) as archive:
                return archive.read(member)
        except (OSError, KeyError, zipfile.BadZipFile):
            raise ConnectomeBenchError("the 3D scene of this sample cannot be read; choose another one") from None
