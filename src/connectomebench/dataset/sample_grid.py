"""Draw a grid of sample rows of a species for the card, with labels."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path
from connectomebench.core.part_masks import read_mask
from connectomebench.core.tasks import PAIR_VIEWS, Task, get_task
from connectomebench.core.view_layout import plane_columns, view_caption
from connectomebench.dataset.manifest import read_manifest
from connectomebench.dataset.schema import read_small_columns, shard_paths
from connectomebench.rendering.colours import EM_OUTLINE, RGB, ROLE_COLOURS
from connectomebench.rendering.mask_overlay import TAKEN_COLOUR, draw_mask
from connectomebench.rendering.overlay import draw_overlay, has_overlay

PARTITION = "train"
SAMPLES = 3
ORIGINS = {
    "edit": "a real correction",
    "control": "real, nothing to correct",
    "simulated": "simulated error or its control",
}
ROLES = {
    "base": "base: the segment asked about",
    "candidate": "candidate: a second segment, which touches it",
    "source": "source: one side of the proposed cut",
    "sink": "sink: its other side",
}

_VIEW_PX = 128
_COLUMNS = 3  # views beside each other, the slice of the same plane below
_GAP, _BLOCK_GAP, _MARGIN = 4, 22, 18
_LABEL_PX, _CAPTION_PX, _ANSWER_PX, _TITLE_PX = 16, 20, 40, 58
_INK, _FAINT, _FRAME = (20, 20, 20), (85, 85, 85), (200, 200, 200)


@dataclass(frozen=True)
class _Sample:
    sample_id: str
    answer: str
    origin: str
    extent_nm: float


def picture_name(species: str) -> str:
    """Return the file name of the grid of a species, beside the manifest: ``SPECIES-samples.png``."""
    return f"{species}-samples.png"


def write_grid(folder: Path, species: str) -> Path:
    """Draw up to three samples of the train partition for each answer, each with all of its views.

    Shown are the first by ``sample_id``, a hash, so nobody picked them. The same rows give the same bytes (with the
    same Pillow). Nothing is rendered: the stored pictures are made smaller, with a centre mark and a scale bar drawn
    over them.

    Parameters
    ----------
    folder
        ``OUT/TASK``, with its manifest (which says whether image data are simulated) and ``SPECIES/train-*.parquet``.
    species
        Species config, an entry of the manifest.

    Returns
    -------
    Path
        The PNG file, ``OUT/TASK/SPECIES-samples.png``, 256 colours.

    Raises
    ------
    ConnectomeBenchError
        If there is no entry or no row of the species, a shard is missing, or the file cannot be written.
    """
    entry = read_manifest(folder)["species"].get(species)
    if entry is None:
        raise ConnectomeBenchError(f"{folder} holds no species {species!r}; build it first")
    rows = read_small_columns(folder / species, PARTITION, ["sample_id", "answer", "origin", "extent_nm", "task"])
    if not rows.num_rows:
        raise ConnectomeBenchError(f"{folder / species} has no {PARTITION} rows to show; build more samples")
    task = get_task(rows["task"][0].as_py())
    kept = rows.select(["sample_id", "answer", "origin", "extent_nm"]).to_pylist()
    samples = sorted((_Sample(**row) for row in kept), key=lambda sample: sample.sample_id)
    lines = [(answer, [s for s in samples if s.answer == answer][:SAMPLES]) for answer in task.labels]
    if not task.labels:
        lines = [("", samples[:SAMPLES])]
    lines = [(answer, shown) for answer, shown in lines if shown]
    pictures = _read_pictures(folder / species, {s.sample_id for _, shown in lines for s in shown})
    legend = _legend(task, entry["source"]["simulated_em"])
    open_answer = "a mask, drawn here over the pictures" if task.scoring == "masks" else "a place"
    grid = _draw(f"{task.title}, {species}", open_answer, legend, lines, pictures, Counter(s.answer for s in samples))
    path = folder / picture_name(species)
    with atomic_path(path) as temporary:
        # an adaptive palette: a third of the bytes, and no difference to see
        grid.quantize(256, dither=Image.Dither.NONE).save(temporary, "PNG", optimize=True)
    return path


def _read_pictures(folder: Path, wanted: Collection[str]) -> dict[str, list[tuple[str, Image.Image]]]:
    """Read the named views of some rows; of large shards only the row groups that hold them."""
    import pyarrow.parquet as pq

    found: dict[str, list[tuple[str, Image.Image]]] = {}
    for path in shard_paths(folder, PARTITION):
        file = pq.ParquetFile(path)
        for group in range(file.num_row_groups):
            ids = file.read_row_group(group, columns=["sample_id"])["sample_id"].to_pylist()
            places = [i for i, sample_id in enumerate(ids) if sample_id in wanted]
            if not places:
                continue
            kept = [
                name for name in ("sample_id", "views", "images", "target_images") if name in file.schema_arrow.names
            ]
            for row in file.read_row_group(group, columns=kept).take(places).to_pylist():
                shown = [_decoded(image["bytes"]) for image in row["images"]]
                for i, target in enumerate(row.get("target_images") or ()):
                    shown[i] = draw_mask(shown[i], read_mask(target))
                found[row["sample_id"]] = list(zip(row["views"], map(_small, shown), strict=True))
    return found


def _decoded(png: bytes) -> Image.Image:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.convert("RGB")


def _small(picture: Image.Image) -> Image.Image:
    return picture.resize((_VIEW_PX, _VIEW_PX), Image.Resampling.LANCZOS)


def _legend(task: Task, simulated_em: bool) -> list[tuple[str, RGB]]:
    """Return the legend of the colours of meshes and slices: text and colour."""
    entries = [(ROLES[role], colour) for role, colour in ROLE_COLOURS.items() if role in task.roles]
    if task.has_em:
        drawn = "SIMULATED slices of image data (no micrographs)" if simulated_em else "slices of image data"
        tinted = "the two sides of the cut" if "sink" in task.roles else "the segments"
        marked = "that segment outlined" if len(task.roles) == 1 else f"{tinted} tinted"
        entries.append((f"below each view: {drawn} in its plane, {marked}", EM_OUTLINE))
    if task.scoring == "masks":
        entries.append(
            ("the answer, which the stored pictures do not show: what the right split takes away", TAKEN_COLOUR)
        )
    return entries


def _draw(
    title: str,
    open_answer: str,
    legend: Sequence[tuple[str, RGB]],
    lines: Sequence[tuple[str, Sequence[_Sample]]],
    pictures: dict[str, list[tuple[str, Image.Image]]],
    counts: Counter[str],
) -> Image.Image:
    """Draw title, answers, images and captions onto one sheet."""
    n_views = max(len(views) for views in pictures.values())
    width_block = min(n_views, _COLUMNS) * (_VIEW_PX + _GAP) - _GAP
    height_block = -(-n_views // _COLUMNS) * (_VIEW_PX + _LABEL_PX + _GAP) + _CAPTION_PX
    width = 2 * _MARGIN + SAMPLES * (width_block + _BLOCK_GAP) - _BLOCK_GAP
    height = _MARGIN + _TITLE_PX + len(lines) * (_ANSWER_PX + height_block) + _MARGIN // 2
    sheet = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, _MARGIN), f"{title}: rows of the {PARTITION} partition", _INK, _font(20))
    left = float(_MARGIN)
    for words, colour in legend:
        draw.rectangle((left, _MARGIN + 33, left + 13, _MARGIN + 46), colour)
        draw.text((left + 20, _MARGIN + 30), words, _FAINT, _font(14))
        left += 20 + _font(14).getlength(words) + 24
    top = _MARGIN + _TITLE_PX
    for answer, shown in lines:
        total = f"{len(shown)} of {counts[answer] if answer else counts.total()} rows"
        heading = f"Right answer: {answer or open_answer}"
        draw.line((_MARGIN, top + 5, width - _MARGIN, top + 5), _FRAME)
        draw.text((_MARGIN, top + 12), heading, _INK, _font(18))
        draw.text((_MARGIN + _font(18).getlength(heading) + 14, top + 15), total, _FAINT, _font(14))
        for i, sample in enumerate(shown):
            left = _MARGIN + i * (width_block + _BLOCK_GAP)
            _draw_sample(sheet, draw, sample, pictures[sample.sample_id], (left, top + _ANSWER_PX))
        top += _ANSWER_PX + height_block
    return sheet


def _draw_sample(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    sample: _Sample,
    views: Sequence[tuple[str, Image.Image]],
    corner: tuple[int, int],
) -> None:
    """Draw the views of one sample with their names above, and origin and width below."""
    left, top = corner
    places = [(i, column, row) for column, rows in enumerate(plane_columns([name for name, _ in views]))
              for row, i in enumerate(rows)]  # fmt: skip
    for i, column, row in places:
        name, picture = views[i]
        x = left + column % _COLUMNS * (_VIEW_PX + _GAP)
        y = top + (row + column // _COLUMNS) * (_VIEW_PX + _LABEL_PX + _GAP)
        draw.text((x + 1, y), view_caption(name), _FAINT, _font(11))
        marked = draw_overlay(picture, sample.extent_nm) if has_overlay(name, sample.extent_nm) else picture
        sheet.paste(marked, (x, y + _LABEL_PX))
        draw.rectangle((x, y + _LABEL_PX, x + _VIEW_PX - 1, y + _LABEL_PX + _VIEW_PX - 1), outline=_FRAME)
    foot = top + -(-len(views) // _COLUMNS) * (_VIEW_PX + _LABEL_PX + _GAP)
    origin = ORIGINS.get(sample.origin, sample.origin)
    if {name for name, _ in views} == set(
        PAIR_VIEWS
    ):  # of two places, no one width holds for both, and the column is narrow
        caption = "simulated" if sample.origin == "simulated" else origin
    else:
        caption = f"{origin}; each view {sample.extent_nm:.0f} nm wide"
    draw.text((left + 1, foot), caption, _INK, _font(13))


def _font(size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow's wheels carry FreeType
    return font
