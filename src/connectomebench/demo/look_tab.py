"""Tab "Look around": turn, move and page at a place before answering, each view at its price."""

from __future__ import annotations

import secrets
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.neighbourhoods import StoredNeighbourhoods
from connectomebench.dataset.rows import DataRecord
from connectomebench.demo.app_data import SOON, AppData, show_errors
from connectomebench.demo.texts import BUTTONS, answers, question, species_title
from connectomebench.environment.camera import can, seen_at
from connectomebench.environment.episode import ANSWER, Episode, EpisodeConfig
from connectomebench.environment.policies import left, png
from connectomebench.environment.samples import Sample, Samples, as_sample
from connectomebench.rendering.overlay import overlay_svg

if TYPE_CHECKING:
    import gradio as gr

Key = tuple[str, str]

PIXELS = 384
_SECONDS_KEPT = 3600
ROWS: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (
    ("Look from the", (("Front", "front"), ("Side", "side"), ("Top", "top"))),
    ("Turn by 30°", (("Left", "turn_left"), ("Right", "turn_right"), ("Up", "turn_up"), ("Down", "turn_down"))),
    (
        "Move",
        (
            ("Left", "move_left"),
            ("Right", "move_right"),
            ("Up", "move_up"),
            ("Down", "move_down"),
            ("Forward", "move_forward"),
            ("Back", "move_back"),
        ),
    ),
    ("Zoom", (("Nearer", "zoom_in"), ("Wider", "zoom_out"))),
    ("Other segments", (("Show or hide", "neighbours"),)),
    ("Slice of image data", (("xy", "em_xy"), ("xz", "em_xz"), ("yz", "em_yz"))),
    ("Through the slices", (("Slice before", "previous_page"), ("Next slice", "next_page"))),
)
"""Buttons: heading, then label and action of each."""

# what follows an answer comes into sight, below the picture that stays where it is
_GO_ON = "() => window.cbGoOn('#cb-look-next', '#cb-look-state')"


def can_look(content: AppData) -> bool:
    """Tell whether any dataset has neighbourhoods."""
    return bool(_stored(content))


def build_look(content: AppData, blocks: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's components and events."""
    import gradio as gr

    datasets = {key: _samples(content, key, stored) for key, stored in _stored(content).items()}
    keys = list(datasets)
    names = [f"{content.samples.collections[key].task.title}, {species_title(key[1])}" for key in keys]
    visit = gr.State(None, time_to_live=_SECONDS_KEPT)
    with gr.Column(elem_id="cb-look"):
        which = gr.Dropdown(
            [*zip(names, range(len(keys)), strict=True)],
            value=0,
            label="Dataset",
            interactive=True,
            elem_id="cb-look-which",
            visible=len(keys) > 1,
        )
        asked = gr.HTML(elem_classes="cb-prose", elem_id="cb-look-asked")
        picture = gr.HTML("<p>The first view is on its way.</p>", elem_id="cb-look-picture")
        state = gr.HTML(elem_id="cb-look-state", elem_classes="cb-prose")
        with gr.Row(elem_id="cb-look-answers"):
            given = [
                gr.Button("", visible=False, elem_id=f"cb-look-answer-{i}", min_width=60, variant="primary")
                for i in range(BUTTONS)
            ]
            other = gr.Button("Another place", elem_id="cb-look-next", min_width=60)
        with gr.Column(elem_id="cb-look-controls") as controls:
            views = []
            for heading, buttons in ROWS:
                with gr.Row(elem_classes="cb-look-row"):
                    gr.HTML(Markup("<h3>{}</h3>").format(heading))
                    for label, action in buttons:
                        one = gr.Button(label, elem_id=f"cb-look-{action}", min_width=44, size="md")
                        views.append((one, action))

    def begin(index: int | None) -> list[Any]:
        if index not in range(len(keys)):
            raise ConnectomeBenchError("there is no such dataset; reload the page")
        samples = datasets[keys[int(index or 0)]]
        number = secrets.randbelow(len(samples))
        episode = Episode(samples.rows[number], samples.place(number), EpisodeConfig(pixels=PIXELS))
        task = content.samples.collections[keys[int(index or 0)]].task
        labels = answers(task)
        return [
            episode,
            Markup('<h2 class="cb-question">{}</h2>').format(question(task)),
            *_seen(episode),
            gr.Column(visible=True),
            *(
                gr.Button(labels[i][1].rsplit(" (", 1)[0], visible=True)
                if i < len(labels) and labels[i][0] in episode.sample.labels
                else gr.Button(visible=False)
                for i in range(BUTTONS)
            ),
        ]

    def look(episode: Episode | None, action: str) -> list[Any]:
        now = _open(episode)
        if not action.startswith(ANSWER) and not now.over and not can(action, now.camera, now.place):
            raise ConnectomeBenchError("that would show the same again, so nothing was charged; choose another view")
        now.step(action)
        # when it is over there is nothing left to press but another place
        kept = gr.Button() if not now.over else gr.Button(visible=False)
        return [now, *_seen(now), gr.Column(visible=not now.over), *[kept] * BUTTONS]

    def answer(episode: Episode | None, index: int) -> list[Any]:
        now = _open(episode)
        given = answers(content.samples.collections[now.sample.task, _species(now, datasets)].task)
        if index >= len(given):
            raise ConnectomeBenchError("this task has no such answer")
        return look(now, ANSWER + given[index][0])

    changed = [visit, picture, state, controls, *given]
    everything = [visit, asked, picture, state, controls, *given]
    tab.select(show_errors(begin), which, everything, **SOON)
    which.input(show_errors(begin), which, everything, **SOON)
    other.click(show_errors(begin), which, everything, **SOON)
    for button, name in views:
        # by keyword, so that each button keeps its own action
        def see(episode: Episode | None, action: str = name) -> list[Any]:
            return look(episode, action)

        button.click(show_errors(see), visit, changed, **SOON)
    for number, button in enumerate(given):

        def take(episode: Episode | None, index: int = number) -> list[Any]:
            return answer(episode, index)

        button.click(show_errors(take), visit, changed, **SOON).then(None, None, None, js=_GO_ON, **SOON)


def _stored(content: AppData) -> dict[Key, StoredNeighbourhoods]:
    """Find the neighbourhoods of each dataset that has some."""
    found: dict[Key, StoredNeighbourhoods] = {}
    for key, collection in content.samples.collections.items():
        folders = {place.file.parent for place in content.samples.places[key]}
        stored = [StoredNeighbourhoods(folder) for folder in folders]
        if collection.task.labels and len(stored) == 1 and _rows(content, key, stored[0]):
            found[key] = stored[0]
    return found


def _rows(content: AppData, key: Key, stored: StoredNeighbourhoods) -> list[Sample]:
    task = content.samples.collections[key].task
    rows = (content.samples.row(key, number) for number in content.samples.shown(key))
    return [as_sample(row, task) for row in rows if row["sample_id"] in stored]


def _samples(content: AppData, key: Key, stored: StoredNeighbourhoods) -> Samples:
    fingerprint = content.samples.collections[key].fingerprint
    data = DataRecord(key[0], key[1], "test", None, None, fingerprint, {}, {})
    return Samples(data, _rows(content, key, stored), stored)


def _species(episode: Episode, datasets: dict[Key, Samples]) -> str:
    return next(key[1] for key, own in datasets.items() if key[0] == episode.sample.task and episode.sample in own.rows)


def _open(episode: Episode | None) -> Episode:
    if episode is None:
        raise ConnectomeBenchError("this page was idle for too long; reload it")
    return episode


def _seen(episode: Episode) -> list[Markup]:
    """Return the picture, and what was spent, or earned at the end."""
    at = seen_at(episode.camera)
    marked = overlay_svg(episode.camera.extent_nm, at if all(0 <= share <= 1 for share in at) else None)
    image = Markup(
        '<div class="cb-look-view"><img src="data:image/png;base64,{}" alt="The place as it is seen now" width="{}" '
        'height="{}">{}</div>'
    ).format(b64encode(png(episode.picture)).decode(), PIXELS, PIXELS, Markup(marked))
    config, spent = episode.config, -sum(episode.rewards)
    if not episode.over:
        text = Markup(
            "<p>Views so far: {}, spent: {:.2f}. A right answer earns {:g}; each further view costs {:g}, a slice of "
            "image data {:g}, and {} are left. The mark is the place in question.</p>"
        )
        prices = (config.right, config.view_price, config.slice_price)
        return [image, text.format(episode.views, spent + 0.0, *prices, left(episode))]
    earned = f"You earned {episode.total:.2f} with {episode.views} view{'' if episode.views == 1 else 's'}."
    verdict = "✓ Right." if episode.right else "✗ Not right." if episode.prediction else "✗ No views are left."
    text = Markup('<p class="cb-verdict cb-{}">{} The answer is: {}.</p><p>{}</p>')
    return [image, text.format("right" if episode.right else "wrong", verdict, episode.sample.answer, earned)]
