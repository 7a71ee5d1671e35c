"""Tab "Explore": all samples with filters, and all details of one sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task
from connectomebench.demo.app_data import SOON, AppData, show_errors
from connectomebench.demo.html import facts, models_table, origin, warning
from connectomebench.demo.neuroglancer import link_html
from connectomebench.demo.place_views import place_words
from connectomebench.demo.recorded_answers import RecordedAnswer, RecordedAnswers
from connectomebench.demo.sample_pictures import pictures_html, thumbnail, views_html
from connectomebench.demo.scene_view import sample_scene
from connectomebench.demo.texts import question

if TYPE_CHECKING:
    import gradio as gr

PAGE = 24
ANY = "any"
_SURE = 0.9
_MODELS = {
    "any": ANY,
    "models disagree": "disagree",
    "all models right": "right",
    "all models wrong": "wrong",
    "some model wrong": "some_wrong",
    f"a model is wrong and sure (at least {_SURE:.0%})": "sure_wrong",
    f"no model is sure (at least {_SURE:.0%})": "unsure",
}
# a click on a sample reveals its row number, which is unrelated to the answer
_CLICK = """
element.addEventListener("click", (event) => {
  const tile = event.target.closest(".cb-tile");
  if (tile) trigger("click", { row: Number(tile.dataset.row) });
});
"""


@dataclass(frozen=True)
class ExploreFilter:
    """Values of the filters; `ANY` lets everything pass. ``models`` is a value of the last filter."""

    partition: str = ANY
    origin: str = ANY
    answer: str = ANY
    models: str = ANY


def matching(content: AppData, found: RecordedAnswers, key: tuple[str, str], wanted: ExploreFilter) -> list[int]:
    """Return the rows of one task and species that pass all filters, ordered by sample id, which mixes answers.

    Samples without any model answer pass no filter on models.
    """
    rows = content.samples.rows[key].select(["sample_id", "partition", "origin", "answer"]).to_pydict()
    plain = [(rows[name], value) for name, value in _plain(wanted) if value != ANY]
    order = sorted(range(len(rows["sample_id"])), key=rows["sample_id"].__getitem__)
    passed = [i for i in order if all(column[i] == value for column, value in plain)]
    if wanted.models == ANY:
        return passed
    return [i for i in passed if _models_pass(found.by_sample.get((*key, rows["sample_id"][i]), ()), wanted.models)]


def _plain(wanted: ExploreFilter) -> tuple[tuple[str, str], ...]:
    return (("partition", wanted.partition), ("origin", wanted.origin), ("answer", wanted.answer))


def _models_pass(said: Sequence[RecordedAnswer], wanted: str) -> bool:
    if not said:
        return False
    right = [one.right for one in said]
    stated = [(max(one.probability, 1 - one.probability), one.right) for one in said if one.probability is not None]
    return {
        "disagree": len({one.prediction for one in said}) > 1,
        "right": all(right),
        "wrong": not any(right),
        "some_wrong": not all(right),
        "sure_wrong": any(sure >= _SURE and not is_right for sure, is_right in stated),
        "unsure": bool(stated) and all(sure < _SURE for sure, _ in stated),
    }[wanted]


def build_explore(content: AppData, blocks: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's components and events."""
    import gradio as gr

    samples = content.samples
    first = next(iter(samples.collections))
    with gr.Row(equal_height=True):
        species = gr.Dropdown(content.species(), value=first[1], label="Species", interactive=True, min_width=240)
        task = gr.Dropdown(content.tasks(first[1]), value=first[0], label="Task", interactive=True, min_width=240)
        partition = gr.Dropdown([ANY], value=ANY, label="Partition", interactive=True, min_width=240)
    with gr.Row(equal_height=True):
        origins = gr.Dropdown([ANY], value=ANY, label="Origin", interactive=True, min_width=240)
        answer = gr.Dropdown([ANY], value=ANY, label="True answer", interactive=True, min_width=240)
        models = gr.Dropdown(list(_MODELS.items()), value=ANY, label="Models", interactive=True, min_width=240)
    answers_shown = gr.Checkbox(
        False, label="Show the answers of test samples", elem_id="cb-answers-shown", interactive=True
    )
    page = gr.State(0)
    count_text = gr.HTML(elem_classes="cb-prose", elem_id="cb-count")
    tiles = gr.HTML(elem_id="cb-gallery", js_on_load=_CLICK)
    with gr.Row():
        before = gr.Button("Previous page", elem_id="cb-before")
        after = gr.Button("Next page", elem_id="cb-after")
    detail = gr.HTML(elem_id="cb-detail", elem_classes="cb-prose")

    def show(species: str, task: str, wanted: ExploreFilter, page: int, answers_shown: bool) -> list[Any]:
        key = _known(content, task, species)
        found = content.records.get()
        numbers = matching(content, found, key, wanted)
        last = max(0, (len(numbers) - 1) // PAGE)
        page = min(max(page, 0), last)
        part = numbers[page * PAGE : (page + 1) * PAGE]
        count = (
            f"Samples {page * PAGE + 1} to {page * PAGE + len(part)} of {len(numbers)}. Choose one to see it below."
            if part
            else "No sample passes these filters; loosen one."
        )
        head = Markup("{}<p>{}</p>").format(warning(samples.collections[key]), count)
        return [
            page,
            head,
            _tiles(content, key, part, answers_shown),
            gr.Button(interactive=page > 0),
            gr.Button(interactive=page < last),
        ]

    def choose(species: str, task: str, answers_shown: bool) -> list[Any]:
        known = [name for _, name in content.tasks(species)]
        if not known:
            raise ConnectomeBenchError("there is no such species; reload the page")
        kept = task if task in known else known[0]
        rows = samples.rows[kept, species]
        partitions, *present = ([ANY, *rows[name].unique().to_pylist()] for name in ("partition", "origin", "answer"))
        if not samples.collections[kept, species].task.labels:
            present[-1] = [ANY]  # places are all different
        # models are evaluated on the test partition
        first = "test" if "test" in partitions else ANY
        return [
            gr.Dropdown(content.tasks(species), value=kept),
            gr.Dropdown(partitions, value=first),
            *(gr.Dropdown(choices, value=ANY) for choices in present),
            gr.Dropdown(value=ANY),
            *show(species, kept, ExploreFilter(first), 0, answers_shown),
            "",
        ]

    def filtered(species: str, task: str, *wanted: Any) -> list[Any]:
        return [*show(species, task, ExploreFilter(*wanted[:-1]), 0, wanted[-1]), ""]

    def turn(by: int) -> Any:
        def turned(species: str, task: str, *values: Any) -> Any:
            *wanted, answers_shown, page = values
            return show(species, task, ExploreFilter(*wanted), page + by, answers_shown)

        return show_errors(turned)

    def pick(species: str, task: str, answers_shown: bool, event: gr.EventData) -> Markup:
        number = getattr(event, "row", None)
        if not isinstance(number, int):
            raise ConnectomeBenchError("there is no such sample; reload the page")
        return _detail(content, _known(content, task, species), number, answers_shown)

    # Gradio looks the type up by name in this module, which does not import it
    pick.__annotations__["event"] = gr.EventData
    filters = [species, task, partition, origins, answer, models, answers_shown]
    shown = [page, count_text, tiles, before, after]
    chosen = [task, partition, origins, answer, models, *shown, detail]
    tab.select(show_errors(choose), [species, task, answers_shown], chosen, **SOON)
    species.input(show_errors(choose), [species, task, answers_shown], chosen, **SOON)
    task.input(show_errors(choose), [species, task, answers_shown], chosen, **SOON)
    for one in filters[2:]:
        one.input(show_errors(filtered), filters, [*shown, detail], **SOON)
    before.click(turn(-1), [*filters, page], shown, **SOON)
    after.click(turn(1), [*filters, page], shown, **SOON)
    tiles.click(show_errors(pick), [species, task, answers_shown], detail, **SOON, scroll_to_output=True)


def _known(content: AppData, task: str, species: str) -> tuple[str, str]:
    if (task, species) not in content.samples.collections:
        raise ConnectomeBenchError("there is no such task for this species; reload the page")
    return task, species


def _hidden(row: dict[str, Any], answers_shown: bool) -> bool:
    """Return whether the answer of a row is hidden: of the test partition, until it is asked for."""
    return row["partition"] == "test" and not answers_shown


def _tiles(content: AppData, key: tuple[str, str], numbers: Sequence[int], answers_shown: bool) -> Markup:
    tiles = []
    for number in numbers:
        row = content.samples.row(key, number)
        hidden = _hidden(row, answers_shown)
        name = "answer hidden" if hidden else f"answer {row['answer']}" if len(row["answer"]) < 12 else "a place"
        where = row["partition"] if hidden else f"{row['partition']}, {row['origin']}"  # controls are no errors
        tiles.append(
            f'<li><button type="button" class="cb-tile" data-row="{number}">'
            f'<img src="{thumbnail(content.samples.pictures(key, number)[0])}" alt="">'
            f"<span>{escape(name)}</span><span>{escape(where)}</span></button></li>"
        )
    return Markup(f'<ul class="cb-tiles">{"".join(tiles)}</ul>') if tiles else Markup("")


def _detail(content: AppData, key: tuple[str, str], number: int, answers_shown: bool) -> Markup:
    row = content.samples.row(key, number)
    collection = content.samples.collections[key]
    if _hidden(row, answers_shown):
        head = Markup('<h2 class="cb-section">Sample {}</h2><p>{}</p>').format(
            row["sample_id"], question(collection.task)
        )
        rest = Markup("<p>{}</p>").format("Its answer is hidden: choose “Show the answers of test samples” to see it.")
        shown = [views_html(content.samples, key, number), sample_scene(content, row, truth=False)]
        return Markup("").join([head, warning(collection), *shown, rest])
    body = Markup('<h2 class="cb-section">Sample {}</h2><p>{} <strong>{}</strong></p>').format(
        row["sample_id"], question(collection.task), _answer_words(row, collection.task)
    )
    return Markup("").join(
        [
            body,
            warning(collection),
            views_html(content.samples, key, number),
            _answer_views(content, key, number),
            Markup('<div class="cb-pair">{}{}</div>').format(
                sample_scene(content, row, truth=False), sample_scene(content, row, truth=True)
            ),
            models_table(content.records.get(), row),
            facts("Where this sample comes from", _provenance(content, key, row)),
            link_html(row, collection),
        ]
    )


def _answer_words(row: dict[str, Any], task: Task) -> str:
    """Say the answer; of places also the nodes nearest to them, whose numbers stand in the pictures."""
    return place_words(row["answer"], row) if task.scoring == "places" else row["answer"]


def _answer_views(content: AppData, key: tuple[str, str], number: int) -> Markup:
    """Show the answer over the pictures where it is masks; nothing otherwise."""
    drawn = content.samples.answer_pictures(key, number)
    if not drawn:
        return Markup("")
    row = content.samples.row(key, number)
    shown = pictures_html(list(row["views"])[: len(drawn)], drawn, row.get("extent_nm"))
    return Markup("<h3>The answer: what the right split takes away, in orange</h3>") + shown


def _second_place(place: Sequence[float] | None) -> str:
    return "" if not place else f"{', '.join(f'{c:,.0f}' for c in place[:3])} nm, edge {place[3]:,.0f} nm"


def _provenance(content: AppData, key: tuple[str, str], row: dict[str, Any]) -> dict[str, str]:
    source = content.samples.collections[key].source
    place = ", ".join(f"{value:,.0f}" for value in row["location_nm"])
    details = {
        "Task": row["task"],
        "Species": row["species"],
        "Partition": row["partition"],
        "Origin": f"{row['origin']}: {origin(row)}",
        "Place (x, y, z)": f"{place} nm",
        "Edge of a view": f"{row['extent_nm']:,.0f} nm",
        "Place of the second picture": _second_place(row.get("second_place")),
        "Segments": ", ".join(map(str, row["segment_ids"])),
        "Bodies": ", ".join(map(str, row["body_ids"])),
        "Group": row["group"],
        "Correction": row["edit_id"],
        "Time of the correction": "" if row["edit_time"] is None else f"{row['edit_time']:%Y-%m-%d %H:%M}",
        "Source": f"{row['source']}, version {row['source_version']}",
        "Licence of the data": source.get("license"),
        "How to cite them": source.get("citation"),
    }
    return {name: str(value) for name, value in details.items() if value}
