"""Tab "Try it": look at a sample, answer, see the truth and the models' answers."""

from __future__ import annotations

import secrets
from functools import partial
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.tasks import Task
from connectomebench.demo.answer_scores import visitor_score
from connectomebench.demo.app_data import SOON, AppData, show_errors
from connectomebench.demo.ask_answer import refusal_html
from connectomebench.demo.ask_line import AT_ONCE, WAITING, AskLine
from connectomebench.demo.ask_models import ask, ask_nodes, explainable
from connectomebench.demo.evidence import evidence_html
from connectomebench.demo.html import models_table, tally, warning
from connectomebench.demo.neuroglancer import link_html
from connectomebench.demo.node_evidence import node_evidence_html
from connectomebench.demo.sample_answers import answered_html, asked_html, models_masks, read_answer, verdict_html
from connectomebench.demo.scene_view import AFTER, BEFORE, sample_scene
from connectomebench.demo.texts import BUTTONS, INTRODUCTION, answers, question
from connectomebench.demo.visitor_state import VisitorState
from connectomebench.models.images import decode

if TYPE_CHECKING:
    import gradio as gr

_SECONDS_KEPT = 3600
_ANSWERED = "() => cbGoOn('#cb-next', '#cb-truth .cb-verdict')"

_WAITING = "Computing where the models find evidence. The first time takes up to half a minute."


def build_try(content: AppData, blocks: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's components and events."""
    import gradio as gr

    samples = content.samples
    first = next(iter(samples.collections))
    visit = gr.State(None, time_to_live=_SECONDS_KEPT)
    with gr.Column(elem_id="cb-try"):
        asked = gr.HTML(elem_classes="cb-prose")
        pictures = gr.HTML('<p style="min-height:20rem">The first sample is on its way.</p>', elem_id="cb-sample")
        turn = gr.Button(BEFORE, visible=False, elem_id="cb-turn", size="md")
        scene = gr.HTML(elem_id="cb-scene")
        with gr.Row(elem_id="cb-answers"):
            typed = gr.Textbox(
                label="Your answer",
                placeholder="Your answer",
                show_label=False,
                container=False,
                visible=False,
                elem_id="cb-typed",
                max_lines=1,
                min_width=130,
            )
            give = gr.Button("Answer", visible=False, elem_id="cb-give", variant="primary", min_width=60)
            buttons = [
                gr.Button("", visible=False, elem_id=f"cb-answer-{i}", elem_classes="cb-keyed", min_width=60)
                for i in range(BUTTONS)
            ]
            following = gr.Button(
                "Skip (→)", elem_id="cb-next", elem_classes="cb-keyed", variant="secondary", min_width=60
            )
        truth = gr.HTML(elem_id="cb-truth", elem_classes="cb-prose")
        explain = gr.Button("What the models look at", visible=False, elem_id="cb-explain", size="md")
        looked = gr.HTML(elem_id="cb-looked", elem_classes="cb-prose")
        score = gr.HTML(elem_id="cb-score", elem_classes="cb-prose")
        with gr.Row(equal_height=True):
            species = gr.Dropdown(content.species(), value=first[1], label="Species", interactive=True, min_width=240)
            task = gr.Dropdown(content.tasks(first[1]), value=first[0], label="Task", interactive=True, min_width=240)
        gr.Checkbox(True, label="Answer with the keys that stand in brackets", elem_id="cb-keys", interactive=True)
        gr.HTML(Markup("<p>{}</p>").format(INTRODUCTION), elem_classes="cb-prose")

    def show(state: VisitorState) -> list[Any]:
        collection = samples.collections[state.key]
        number = state.number(samples)
        in_field = not answers(collection.task)
        told_answers = answers(collection.task)
        return [
            state,
            Markup('<h2 class="cb-question">{}</h2>{}').format(question(collection.task), warning(collection)),
            asked_html(samples, state.key, number),
            gr.Textbox("", visible=in_field),
            gr.Button(visible=in_field),
            *(
                gr.Button(told_answers[i][1], visible=True, variant="primary")
                if i < len(told_answers)
                else gr.Button(visible=False)
                for i in range(BUTTONS)
            ),
            gr.Button("Skip (→)", variant="secondary"),
            "",
            gr.Button(BEFORE, visible=samples.row(state.key, number)["sample_id"] in content.scenes),
            "",
            gr.Button(visible=False),
            "",
        ]

    def in_3d(state: VisitorState | None) -> Markup:
        now = _open(state)
        return sample_scene(content, samples.row(now.key, now.number(samples)), truth=now.answered)

    line = AskLine()

    async def look(state: VisitorState | None) -> Markup:
        try:
            now = _open(state)
            if not now.answered:
                raise ConnectomeBenchError("answer first; then see what the models look at")
            return await line.run(partial(_looked, content, now.key, now.number(samples)))
        except ConnectomeBenchError as error:
            return refusal_html(str(error))

    def start() -> list[Any]:
        return show(_new(first))

    def choose(state: VisitorState | None, species: str, task: str) -> list[Any]:
        moved = (state or _new(first)).switched(_known(content, task, species))
        return [*show(moved), _score(content, moved)]

    def choose_species(state: VisitorState | None, species: str, task: str) -> list[Any]:
        known = [name for _, name in content.tasks(species)]
        if not known:
            raise ConnectomeBenchError("there is no such species; reload the page")
        kept = task if task in known else known[0]
        return [gr.Dropdown(content.tasks(species), value=kept), *choose(state, species, kept)]

    def go_on(state: VisitorState | None) -> list[Any]:
        return show(_open(state).after())

    def answer(state: VisitorState | None, index: int) -> list[Any]:
        given = answers(samples.collections[_open(state).key].task)
        if index >= len(given):
            raise ConnectomeBenchError("this task has no such answer")
        return finish(_open(state), given[index][0])

    def submit(state: VisitorState | None, text: str) -> list[Any]:
        now = _open(state)
        if now.answered or answers(samples.collections[now.key].task):
            raise ConnectomeBenchError("this sample is answered; go on to the next one")
        return finish(now, read_answer(samples, now.key, now.number(samples), str(text)))

    def finish(before: VisitorState, given: str) -> list[Any]:
        after = before.answer(samples, given)
        number = after.number(samples)
        row, key = samples.row(after.key, number), after.key
        said = content.records.get()
        return [
            after,
            gr.skip() if answers(samples.collections[key].task) else answered_html(samples, key, number, given),
            gr.Textbox(visible=False),
            gr.Button(visible=False),
            *(gr.Button(visible=False) for _ in range(BUTTONS)),
            gr.Button("Next sample (→)", variant="primary"),
            verdict_html(row, visitor_score(samples, key, number, given))
            + link_html(row, samples.collections[key])
            + models_table(said, row)
            + models_masks(samples, key, number, said.of(row)),
            _score(content, after),
            gr.Button(AFTER, visible=row["sample_id"] in content.scenes),
            "",
            gr.Button(visible=bool(explainable(content.folder, key[0]))),
            "",
        ]

    shown = [visit, asked, pictures, typed, give, *buttons, following, truth, turn, scene, explain, looked]
    blocks.load(show_errors(start), None, shown, **SOON)
    task.input(show_errors(choose), [visit, species, task], [*shown, score], **SOON)
    species.input(show_errors(choose_species), [visit, species, task], [task, *shown, score], **SOON)
    followed = following.click(show_errors(go_on), visit, shown, **SOON)
    followed.then(None, js="() => cbGoOn('#cb-answer-0, #cb-give', '#cb-try .cb-question')")
    turn.click(show_errors(in_3d), visit, scene, **SOON)
    waited = explain.click(lambda: Markup("<p>{}</p>").format(_WAITING), None, looked, **SOON)
    explained = waited.then(look, visit, looked, concurrency_limit=AT_ONCE + WAITING, **SOON)
    explained.then(None, js="() => cbGoOn('#cb-next', '#cb-looked summary')")
    outputs = [visit, pictures, typed, give, *buttons, following, truth, score, turn, scene, explain, looked]
    for event in (give.click, typed.submit):
        given = event(show_errors(submit), [visit, typed], outputs, **SOON)
        given.then(None, js=_ANSWERED)
    for index, button in enumerate(buttons):
        # by keyword, so that each button keeps its own number
        def take(state: VisitorState | None, index: int = index) -> list[Any]:
            return answer(state, index)

        clicked = button.click(show_errors(take), visit, outputs, **SOON)
        clicked.then(None, js=_ANSWERED)


def _looked(content: AppData, key: tuple[str, str], number: int) -> Markup:
    """Show what the models of a sample's task look at."""
    samples = content.samples
    task, row = samples.collections[key].task, samples.row(key, number)
    images = [decode({"bytes": file}) for file in samples.pictures(key, number)]
    if task.scoring == "places":
        asked = ask_nodes(explainable(content.folder, task.name), row, images)
        own = [node_evidence_html(model.name, said, scores, row) for model, said, scores in asked]
        return Markup("").join(own) or Markup("<p>{}</p>").format("No model of places can be asked here.")
    opinions = ask(explainable(content.folder, task.name), task, images)
    found = [(one.model.name, one.evidence) for one in opinions if one.evidence]
    # the first is what was asked for; further ones are folded
    shown = [
        evidence_html(name, maps, row["views"], images, row.get("extent_nm"), opened=not i)
        for i, (name, maps) in enumerate(found)
    ]
    return Markup("").join(shown) or Markup("<p>{}</p>").format("No model's evidence can be drawn for this sample.")


def _known(content: AppData, task: str, species: str) -> tuple[str, str]:
    if (task, species) not in content.samples.collections:
        raise ConnectomeBenchError("there is no such task for this species; reload the page")
    return task, species


def _new(key: tuple[str, str]) -> VisitorState:
    return VisitorState(key, secrets.randbelow(2**31), {key: 0})


def _open(state: VisitorState | None) -> VisitorState:
    if state is None:
        raise ConnectomeBenchError("this page was idle for too long; reload it")
    return state


def _score(content: AppData, state: VisitorState) -> Markup:
    lines = state.score(content.samples, content.records.get())
    if not lines:
        return Markup("")
    items = Markup("").join(Markup("<li>{}</li>").format(line) for line in lines)
    return Markup(
        '<h2 class="cb-section">Your score in this task, and models on the same samples</h2><ul>{}</ul>{}'
    ).format(items, _people(content.samples.collections[state.key].task))


def _people(task: Task) -> Markup:
    """Return how people scored in the published evaluation, which used other samples."""
    if not task.published_people:
        return Markup("")
    scores = "; ".join(tally(right, n) for right, n in task.published_people)
    return Markup('<p class="cb-soft">For comparison, {} people on samples of the mouse, as published: {}.</p>').format(
        len(task.published_people), scores
    )
