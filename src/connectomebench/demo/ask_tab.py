"""Tab "Ask the models": render and classify a visitor's own meshes or views as in the datasets."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooSlow
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point
from connectomebench.core.tasks import MESH_VIEWS, Task, get_task
from connectomebench.demo.app_data import SOON, AppData, show_errors
from connectomebench.demo.ask_answer import answer_html, refusal_html
from connectomebench.demo.ask_cave import WIDEST_NM, meshes_now, root_ids, species_with_token
from connectomebench.demo.ask_line import AT_ONCE, WAITING, AskLine
from connectomebench.demo.ask_models import MODELS_VARIABLE, AskableModel, ask, askable_tasks, find_models
from connectomebench.demo.ask_pictures import (
    EXTENTS_NM,
    draw_meshes,
    draw_something,
    meeting_point,
    mesh_scene,
    read_views,
)
from connectomebench.demo.demo_data import named_repositories
from connectomebench.demo.mesh_counts import SUFFIXES
from connectomebench.demo.mesh_files import MOST_BYTES, MOST_FACES, read_meshes_apart
from connectomebench.demo.texts import question, view_title

if TYPE_CHECKING:
    import gradio as gr
    from PIL import Image

_MESHES, _VIEWS, _CAVE = "Meshes", "Three finished views", "A place in CAVE"
_COLOURS = {"base": "Blue", "candidate": "Orange", "source": "Blue", "sink": "Orange"}
# events at once; Gradio runs 40 of all kinds
_EVENTS = AT_ONCE + WAITING + 2
_WAIT_S = 60.0
_EXTENT_UM = 5.0
_WIDTHS, _WIDTHS_CAVE = (f"{EXTENTS_NM[0] / 1000:g} to {widest / 1000:g}" for widest in (EXTENTS_NM[1], WIDEST_NM))
_TEXT = 100
_GONE = "something went wrong; files are removed after ten minutes, so upload yours again if they are older"
_FARTHEST_NM = 1e9
MOST_SCENE_BYTES = 8_000_000


@dataclass(frozen=True)
class AskRequest:
    """A visitor's question, as the page sends it.

    Attributes
    ----------
    task, kind
        Name of the task, and kind of upload: meshes, views or a place in CAVE.
    unit, extent_um, centre
        Typed values: nm per unit of the coordinates, width of the views in µm, centre in nm.
    dataset, roots
        Species and root ids of a place in CAVE.
    meshes, views
        Uploaded files.
    """

    task: str
    kind: str
    unit: str
    extent_um: float | None
    centre: str
    dataset: str | None
    roots: str
    meshes: tuple[bytes | None, ...] = field(repr=False)
    views: tuple[bytes | None, ...] = field(repr=False)


def build_ask(content: AppData, blocks: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's components and events; opening it starts a thread that finds and loads the models."""
    import gradio as gr

    tasks = askable_tasks()
    named_repositories(MODELS_VARIABLE)  # a wrong name fails at startup, not for the first visitor
    # started when the first visitor opens the tab, so that it does not slow down other tabs
    models = cache(partial(_in_background, content.folder))
    datasets = [(species.title, species.name) for species in species_with_token()]
    kinds = [_MESHES, _VIEWS, *([_CAVE] if datasets else [])]
    gr.HTML(_introduction(), elem_classes="cb-prose")
    with gr.Row():
        task = gr.Dropdown(
            [(question(t), t.name) for t in tasks], value=tasks[0].name, label="Question", scale=3, min_width=320
        )
        what = gr.Radio(kinds, value=_MESHES, label="What you have", scale=2, min_width=240)
    with gr.Row() as of_meshes:
        suffixes = [f".{suffix}" for suffix in SUFFIXES]
        files = [
            gr.File(label=label, file_types=suffixes, type="filepath", height=140, elem_id=f"cb-mesh-{i}")
            for i, label in enumerate(_labels(tasks[0]))
        ]
    with gr.Row(visible=False) as of_views:
        views = [
            gr.File(
                label=view_title(name),
                file_types=[".png", ".jpg", ".jpeg"],
                type="filepath",
                height=140,
                elem_id=f"cb-view-{name}",
            )
            for name in MESH_VIEWS
        ]
    with gr.Row(visible=False) as of_cave:
        dataset = gr.Dropdown(datasets, value=datasets[0][1] if datasets else None, label="Dataset")
        roots = gr.Textbox(
            label="Root ids as they are now: blue piece, orange piece", max_length=_TEXT, elem_id="cb-ask-roots"
        )
    with gr.Row() as of_place:
        unit = gr.Textbox(
            "1",
            label="Unit of their coordinates, nm",
            info="1000 for µm; 4, 4, 40 for voxels of that size",
            max_length=_TEXT,
            min_width=240,
            elem_id="cb-ask-unit",
        )
        extent = gr.Number(
            _EXTENT_UM, label="Width of the views, µm", info=_WIDTHS, min_width=240, elem_id="cb-ask-extent"
        )
        centre = gr.Textbox(
            label="Centre x, y, z, nm",
            info=_empty_centre(_labels(tasks[0])),
            max_length=_TEXT,
            min_width=240,
            elem_id="cb-ask-centre",
        )
    uploads = [*files, *views]
    go = gr.Button("Ask the models", variant="primary", elem_id="cb-ask-go")
    said = gr.HTML(elem_id="cb-ask-said", elem_classes="cb-prose")

    def changed(name: str, kind: str) -> list[Any]:
        labels = _labels(_known(name))
        return [
            gr.Row(visible=kind == _MESHES),
            gr.Row(visible=kind == _VIEWS),
            gr.Row(visible=kind == _CAVE),
            gr.Row(visible=kind != _VIEWS),
            gr.Textbox(visible=kind == _MESHES),
            gr.Number(info=_WIDTHS_CAVE if kind == _CAVE else _WIDTHS),
            gr.Textbox(info="a point where the pieces are" if kind == _CAVE else _empty_centre(labels)),
            gr.Textbox(label=f"Root ids as they are now: {', '.join(labels).lower()}"),
            *(
                gr.File(label=labels[i], visible=True)
                if kind == _MESHES and i < len(labels)
                else gr.File(visible=False, value=None)
                for i in range(len(files))
            ),
            *(gr.File(visible=True) if kind == _VIEWS else gr.File(visible=False, value=None) for _ in views),
        ]

    def answer(*values: Any) -> Markup:
        given = [_content(path) for path in values[-len(uploads) :]]
        wish = AskRequest(
            *values[: -len(uploads)], meshes=tuple(given[: -len(views)]), views=tuple(given[-len(views) :])
        )
        chosen = _known(wish.task)
        drawn, note, scene = _views_of(wish, chosen)
        return answer_html(chosen, drawn, note, ask(_found(models())[chosen.name], chosen, drawn), scene)

    line = AskLine()

    async def run(*values: Any) -> Markup:
        try:
            return await line.run(partial(answer, *values))
        except ConnectomeBenchError as error:
            return refusal_html(str(error))

    def opened() -> None:
        models()

    tab.select(opened, None, None, **SOON)
    followed = [of_meshes, of_views, of_cave, of_place, unit, extent, centre, roots, *uploads]
    for shown in (task, what):
        shown.input(show_errors(changed), [task, what], followed, **SOON)
    asked = go.click(
        run,
        [task, what, unit, extent, centre, dataset, roots, *uploads],
        said,
        # each is in the line at once, or refused
        concurrency_limit=_EVENTS,
        api_visibility="private",
    )
    # files that were removed meanwhile are reported before `run` starts
    asked.failure(lambda: refusal_html(_GONE), None, said, **SOON)


def _content(path: str | None) -> bytes | None:
    """Read an upload; only now, so that those who wait in line hold no memory."""
    if path is None:
        return None
    try:
        return Path(path).read_bytes()
    except OSError:
        raise ConnectomeBenchError(_GONE) from None


def _in_background(folder: Path) -> Future[dict[str, list[AskableModel]]]:
    """Find, load and warm up the models while a visitor chooses files."""
    pool = ThreadPoolExecutor(1, "ask-models")
    found = pool.submit(find_models, folder)

    def prepare() -> None:
        for name, models in found.result().items():
            if here := [model for model in models if model.source is not None]:
                task = get_task(name)
                ask(here, task, draw_something(task))

    pool.submit(prepare)
    pool.shutdown(wait=False)
    return found


def _found(models: Future[dict[str, list[AskableModel]]]) -> dict[str, list[AskableModel]]:
    try:
        return models.result(timeout=_WAIT_S)
    except TooSlow:
        raise ConnectomeBenchError("the models are still being fetched; ask again in a minute") from None


def _introduction() -> Markup:
    kinds = ", ".join(suffix.upper() for suffix in SUFFIXES)
    return Markup("<p>{}</p>").format(
        "Upload the surfaces of one or two pieces of a segmentation, and see them as the models do: three views of one "
        f"place. Meshes are {kinds} files of at most {MOST_BYTES // 1_000_000} MB and {MOST_FACES:,} faces; three "
        "finished square pictures will do too. Nobody else sees your files, and they are removed within minutes."
    )


def _labels(task: Task) -> list[str]:
    return [f"{_COLOURS[role]} piece" for role in task.roles]


def _empty_centre(labels: Sequence[str]) -> str:
    return "empty: where the two pieces are nearest" if len(labels) > 1 else "empty: the middle of the piece"


def _known(name: str) -> Task:
    if name not in {task.name for task in askable_tasks()}:
        raise ConnectomeBenchError("there is no such question; reload the page")
    return get_task(name)


def _views_of(wish: AskRequest, task: Task) -> tuple[list[Image.Image], str, bytes | None]:
    """Render the requested place; return the views, a caption, and the scene where meshes are known."""
    if wish.kind == _VIEWS:
        given = [file for file in wish.views if file is not None]
        if len(given) < len(MESH_VIEWS):
            raise ConnectomeBenchError("upload all three views: front, side and top")
        return read_views(given), "Your views, as you uploaded them.", None
    if wish.extent_um is None:
        raise ConnectomeBenchError("say how wide the views shall be, in µm")
    if wish.kind == _CAVE:
        point = _point(wish.centre)
        ids = root_ids(wish.roots, len(task.roles))
        return _drawn(task, meshes_now(str(wish.dataset), ids, point, wish.extent_um * 1000), point, wish.extent_um)
    files = [file for file in wish.meshes[: len(task.roles)] if file is not None]
    if len(files) < len(task.roles):
        raise ConnectomeBenchError(f"upload a mesh for the {' and the '.join(_labels(task)).lower()}")
    meshes = read_meshes_apart(files, _unit_nm(wish.unit))
    point = _point(wish.centre) if wish.centre.strip() else meeting_point(meshes)
    return _drawn(task, meshes, point, wish.extent_um)


def _drawn(
    task: Task, meshes: Sequence[Mesh], point: Point, extent_um: float
) -> tuple[list[Image.Image], str, bytes | None]:
    views = draw_meshes(task, meshes, point, extent_um * 1000)
    place = ", ".join(f"{value:.0f}" for value in point)
    scene = mesh_scene(task, meshes, point, extent_um * 1000)
    # a large one would take longer to send than the answer
    small = scene if len(scene) <= MOST_SCENE_BYTES else None
    return views, f"Centre {place} nm; the views are {extent_um:g} µm wide.", small


def _unit_nm(text: str) -> Point:
    size = _numbers(text)
    if len(size) not in (1, 3):
        raise ConnectomeBenchError("the unit is one number of nm, or the three edges of a voxel with commas between")
    x, y, z = size * 3 if len(size) == 1 else size
    return x, y, z


def _point(text: str) -> Point:
    numbers = _numbers(text)
    if len(numbers) != 3:
        raise ConnectomeBenchError("the centre is three numbers with commas between: x, y, z in nm")
    x, y, z = numbers
    return x, y, z


def _numbers(text: str) -> list[float]:
    wrong = ConnectomeBenchError("coordinates and units are numbers, with commas between them")
    try:
        numbers = [float(word) for word in text.replace(";", " ").replace(",", " ").split()]
    except ValueError:
        raise wrong from None
    if not all(abs(number) <= _FARTHEST_NM for number in numbers):
        raise wrong
    return numbers
