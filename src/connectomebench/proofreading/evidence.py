"""`OUT/evidence`: what a correction was judged by, and what a person who reviews it sees besides."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from connectomebench.core.files import atomic_path
from connectomebench.core.site import Site
from connectomebench.core.tasks import EM_VIEWS
from connectomebench.proofreading.edit_log import Edit
from connectomebench.rendering.em_slices import draw_parts
from connectomebench.rendering.scene_file import NAME, site_scene
from connectomebench.rendering.views import ViewConfig
from connectomebench.sources.volumes.volume_source import VolumeSource

FOLDER = "evidence"


def keep_evidence(
    out: Path, key: str, site: Site, images: Mapping[str, bytes], source: VolumeSource, views: ViewConfig
) -> list[str]:
    """Store the pictures of a correction, its scene, and slices of image data that the pictures lack.

    Parameters
    ----------
    out
        Output folder.
    key
        Of the site; names the folder.
    site
        What the pictures show.
    images
        View -> PNG, as the model saw it.
    source
        Gives meshes and image data.
    views
        Gives the size of slices.

    Returns
    -------
    list[str]
        Paths of ``images`` relative to ``out``. The scene and the other slices lie beside them.
    """
    folder = out / FOLDER / key
    shown = dict(images)
    slices = source.em_slices(site, views.em_px) or {}
    for view in EM_VIEWS:
        if view not in images and view in slices and slices[view].inside.any():
            shown[view] = _png(Image.fromarray(draw_parts(slices[view], site.parts, views.em_px)))
    files = {f"{view}.png": content for view, content in shown.items()}
    files[NAME] = site_scene(site, source.meshes(site))
    for name, content in files.items():
        with atomic_path(folder / name) as temporary:
            temporary.write_bytes(content)
    return [f"{FOLDER}/{key}/{view}.png" for view in images]


def remove_scenes(out: Path, kept: Iterable[Edit]) -> None:
    """Remove the scenes of corrections that are neither applied nor in the queue: nobody reviews them."""
    wanted = {str(Path(path).parent) for edit in kept for path in edit.evidence[:1]}
    for path in (out / FOLDER).glob(f"*/{NAME}"):
        if path.parent.relative_to(out).as_posix() not in wanted:
            path.unlink()


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=False, compress_level=3)
    return stream.getvalue()
