"""What was kept of an edit: the pictures that the model saw, further ones for people, and a scene."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from connectomebench.core.view_layout import PLANES, plane
from connectomebench.proofreading.edit_log import Edit
from connectomebench.proofreading.evidence import FOLDER
from connectomebench.rendering.scene_file import NAME, read_cube

VIEWS = ("front", "side", "top", "em_xy", "em_yz", "em_xz")
"""Pictures that may have been kept, in the order in which they are shown."""

PART = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
"""What a folder of evidence may be called."""


@dataclass(frozen=True)
class EditEvidence:
    """What was kept of an edit.

    Attributes
    ----------
    folder
        Relative to the output folder: ``evidence/KEY``.
    views
        Names of the pictures that are there.
    judged
        Those that the model saw.
    extent_nm
        Edge of the cube shown, nm; None where no scene was kept.
    """

    folder: PurePosixPath
    views: tuple[str, ...]
    judged: frozenset[str]
    extent_nm: float | None

    def picture(self, view: str) -> str:
        """Return the path of a picture, relative to the output folder."""
        return f"{self.folder}/{view}.png"

    @property
    def scene(self) -> str | None:
        """Path of the scene, relative to the output folder; None where there is none."""
        return None if self.extent_nm is None else f"{self.folder}/{NAME}"

    @property
    def slices(self) -> tuple[str, ...]:
        """Pictures that are slices of image data."""
        return tuple(view for view in self.views if view.startswith("em_"))

    def title(self, view: str) -> str:
        """Name a picture, with its plane, and say so where the model did not see it."""
        return picture_title(view) + ("" if view in self.judged else ", not shown to the model")


def find_evidence(out: Path, edit: Edit) -> EditEvidence | None:
    """Find what was kept of an edit; None where it names no evidence, or names what lies elsewhere.

    Parameters
    ----------
    out
        Output folder of a ``connectomebench proofread``.
    edit
        An edit of that run.
    """
    if not edit.evidence:
        return None
    folder = PurePosixPath(edit.evidence[0]).parent
    if folder.parent != PurePosixPath(FOLDER) or not PART.fullmatch(folder.name):
        return None
    here = out / folder
    scene = here / NAME
    return EditEvidence(
        folder,
        tuple(view for view in VIEWS if (here / f"{view}.png").is_file()),
        frozenset(PurePosixPath(path).stem for path in edit.evidence),
        read_cube(scene.read_bytes())[1] if scene.is_file() else None,
    )


def picture_title(view: str) -> str:
    """Name a view with its plane."""
    if view in PLANES:
        return f"{view} ({PLANES[view]} plane)"
    return f"image data, {plane(view)} plane" if plane(view) else view


def safe_link(edit: Edit) -> str:
    """Return the link of an edit to Neuroglancer; empty where it has none that a page may show."""
    return edit.neuroglancer if edit.neuroglancer.startswith("https://") else ""
