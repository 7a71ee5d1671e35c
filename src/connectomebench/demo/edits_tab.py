"""Tab "Edits": what a proofreading did and proposes, and a way to its review; nothing is changed here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.demo.app_data import SOON, AppData, show_errors
from connectomebench.demo.html import facts, probability_bar
from connectomebench.demo.sample_pictures import data_uri, pictures_html, thumbnail
from connectomebench.demo.scene_view import BEFORE_TITLE, scene_html
from connectomebench.review.app import PATH, QUESTIONS
from connectomebench.review.edit_evidence import find_evidence, safe_link
from connectomebench.review.edit_list import Fate, ListedEdit, list_edits
from connectomebench.review.review_session import ReviewSession

if TYPE_CHECKING:
    import gradio as gr

PAGE = 8
ANY = "any"
_STATES: tuple[tuple[str, str], ...] = (
    ("all edits", ANY),
    ("applied by the run", "applied"),
    ("waiting for a decision", "waiting"),
    ("accepted by a person", "accepted"),
    ("rejected by a person", "rejected"),
    ("accepted, but not possible", "refused"),
    ("settled by other edits", "settled"),
)
_ORDER = (
    "The largest expected gain is first: how sure the model is, times the bits of information that a right edit gains."
)
_KINDS: tuple[tuple[str, str], ...] = (("all kinds", ANY), ("merges", "merge"), ("splits", "split"))
_DONE: dict[str, str] = {"merge": "Merge of two objects into one", "split": "Split of one object into two"}
# the name of an edit is a hash of what it does
_CLICK = """
element.addEventListener("click", (event) => {
  const row = event.target.closest(".cb-edit");
  if (row) trigger("click", { edit: row.dataset.edit });
});
"""
# below the list, on a phone, the details would be out of sight
_SEE = """() => setTimeout(() => {
  const head = document.querySelector("#cb-edit h2");
  if (!head) return;
  const { top, bottom } = head.getBoundingClientRect();
  if (top < 0 || bottom > window.innerHeight) head.scrollIntoView({ block: "start" });
}, 60)"""


def has_edits(content: AppData) -> bool:
    """Tell whether the output of a proofreading was opened."""
    return content.edits is not None


def build_edits(content: AppData, blocks: gr.Blocks, tab: gr.Tab) -> None:
    """Add the tab's components and events."""
    import gradio as gr

    session = content.edits
    assert session is not None, "the tab is left out without edits"
    with gr.Column(elem_id="cb-edits"):
        head = gr.HTML(elem_id="cb-edits-head", elem_classes="cb-prose")
        with gr.Row():
            state = gr.Dropdown([*_STATES], value=ANY, label="Show", interactive=True, min_width=140)
            kind = gr.Dropdown([*_KINDS], value=ANY, label="Kind", interactive=True, min_width=140)
        with gr.Row(elem_id="cb-edits-both"):
            with gr.Column(scale=2, min_width=300):
                rows = gr.HTML(elem_id="cb-edits-list", js_on_load=_CLICK, apply_default_css=False)
                with gr.Row():
                    before = gr.Button("Previous page", elem_id="cb-edits-before", min_width=100)
                    after = gr.Button("Next page", elem_id="cb-edits-after", min_width=100)
            with gr.Column(scale=3, min_width=300):
                detail = gr.HTML(elem_id="cb-edit", elem_classes="cb-prose")
    page, chosen = gr.State(0), gr.State("")

    def show(wanted: str, operation: str, page: int, edit_id: str) -> list[Any]:
        every = _all(session)
        found = _passing(every, wanted, operation)
        last = max(0, (len(found) - 1) // PAGE)
        page = min(max(page, 0), last)
        part = found[page * PAGE : (page + 1) * PAGE]
        return [
            page,
            _head(session, every, len(found)),
            _rows(session, every, part, edit_id),
            gr.Button(interactive=page > 0, visible=last > 0),
            gr.Button(interactive=page < last, visible=last > 0),
        ]

    def first(wanted: str, operation: str) -> list[Any]:
        found = _passing(_all(session), wanted, operation)
        edit_id = found[0].edit.edit_id if found else ""
        return [*show(wanted, operation, 0, edit_id), edit_id, _detail(session, edit_id) if found else ""]

    def turn(by: int) -> Any:
        return show_errors(lambda wanted, operation, page, chosen: show(wanted, operation, page + by, chosen))

    def pick(wanted: str, operation: str, page: int, event: gr.EventData) -> list[Any]:
        edit_id = str(getattr(event, "edit", ""))
        return [*show(wanted, operation, page, edit_id), edit_id, _detail(session, edit_id)]

    # Gradio looks the type up by name in this module, which does not import it
    pick.__annotations__["event"] = gr.EventData
    filters, shown = [state, kind], [page, head, rows, before, after]
    everything = [*shown, chosen, detail]
    for one in filters:
        one.input(show_errors(first), filters, everything, **SOON)
    before.click(turn(-1), [*filters, page, chosen], shown, **SOON)
    after.click(turn(1), [*filters, page, chosen], shown, **SOON)
    rows.click(show_errors(pick), [*filters, page], everything, **SOON).then(None, None, None, js=_SEE, **SOON)
    tab.select(show_errors(first), filters, everything, **SOON)
    if not content.samples.collections:  # then this is the first tab, which nobody selects
        blocks.load(show_errors(first), filters, everything, **SOON)


def _all(session: ReviewSession) -> list[ListedEdit]:
    """Return all edits with the decisions of this moment, whoever made them."""
    return session.read(lambda state: list_edits(state, session.edits))


def _passing(edits: Sequence[ListedEdit], wanted: str, operation: str) -> list[ListedEdit]:
    if wanted not in {value for _, value in _STATES} or operation not in {value for _, value in _KINDS}:
        raise ConnectomeBenchError("there is no such filter; reload the page")
    return [one for one in edits if wanted in (ANY, one.fate) and operation in (ANY, one.edit.operation)]


def _head(session: ReviewSession, edits: Sequence[ListedEdit], passing: int) -> Markup:
    """Return counts, what the order means, and the way to the review."""
    counts = Counter(one.fate for one in edits)
    text = ", ".join(f"{counts[fate]} {name}" for name, fate in _STATES[1:] if counts[fate])
    body = Markup("<p><strong>{} edits</strong> of <code>{}</code>: {}.{}</p>").format(
        len(edits), session.out.name, text or "none", "" if passing else " None passes these filters; loosen one."
    )
    if counts["waiting"]:
        body += Markup(
            '<p><a class="cb-go" href="{}" target="_blank">Review the {} that {}</a> Review first: this page says what '
            "the model thinks, the review hides it until you decide.</p>"
        ).format(PATH, counts["waiting"], "waits" if counts["waiting"] == 1 else "wait")
    return body


def _rows(session: ReviewSession, every: Sequence[ListedEdit], part: Sequence[ListedEdit], chosen: str) -> Markup:
    ranks = {one.edit.edit_id: rank for rank, one in enumerate(every, 1)}
    return Markup('<ol class="cb-edit-list">{}</ol><p class="cb-soft">{}</p>').format(
        Markup("").join(_row(session, ranks[one.edit.edit_id], one, chosen) for one in part), _ORDER if part else ""
    )


def _row(session: ReviewSession, rank: int, one: ListedEdit, chosen: str) -> Markup:
    kept = find_evidence(session.out, one.edit)
    picture = Markup('<span class="cb-edit-none"></span>')
    if kept is not None and kept.views:
        small = thumbnail((session.out / kept.picture(kept.views[0])).read_bytes())
        picture = Markup('<img src="{}" alt="">').format(small)
    return Markup(
        '<li><button type="button" class="cb-edit" data-edit="{}"{}>{}<span><b>{}. {}</b> {}</span>'
        "<span>{} sure · {} bits</span></button></li>"
    ).format(
        one.edit.edit_id,
        Markup(' aria-current="true"') if one.edit.edit_id == chosen else "",
        picture,
        rank,
        one.edit.operation.capitalize(),
        fate_text(one),
        f"{one.edit.confidence:.0%}",
        f"{one.value:.2g}",
    )


def fate_text(one: ListedEdit) -> str:
    """Say what became of an edit, in a few words."""
    words: dict[Fate, str] = {
        "applied": "applied by the run",
        "waiting": "waits for a decision",
        "accepted": f"accepted by {one.by}",
        "rejected": f"rejected by {one.by}",
        "refused": f"accepted by {one.by}, but not possible",
        "settled": "settled by other edits",
    }
    return words[one.fate]


def _detail(session: ReviewSession, edit_id: str) -> Markup:
    """Show evidence and facts of one edit.

    Raises
    ------
    ConnectomeBenchError
        If there is none of this name.
    """
    every = _all(session)
    rank, one = next(((i, own) for i, own in enumerate(every, 1) if own.edit.edit_id == edit_id), (0, None))
    if one is None:
        raise ConnectomeBenchError("there is no such edit; reload the page")
    link = safe_link(one.edit)
    return Markup("").join(
        [
            Markup('<h2 class="cb-section">{}. {}</h2>').format(rank, _DONE[one.edit.operation]),
            Markup("<p>{}{}</p>").format(fate_text(one).capitalize(), f": {one.reason}." if one.reason else "."),
            _evidence(session, one),
            facts("What is known of it", _facts(one)),
            Markup(
                '<p><a href="{}" target="_blank" rel="noopener noreferrer">Open this place in Neuroglancer</a></p>'
            ).format(link)
            if link
            else Markup(""),
        ]
    )


def _evidence(session: ReviewSession, one: ListedEdit) -> Markup:
    """Show the pictures, then the same in 3D."""
    kept = find_evidence(session.out, one.edit)
    if kept is None or not kept.views:
        return Markup('<p class="cb-soft">No pictures of this edit were kept.</p>')
    files = {view: (session.out / kept.picture(view)).read_bytes() for view in kept.views}
    shown = pictures_html(kept.views, list(files.values()), kept.extent_nm, [kept.title(view) for view in kept.views])
    if one.changed:
        warning = "Other edits changed these objects after the pictures were drawn."
        shown = Markup('<p class="cb-warning">{}</p>').format(warning) + shown
    if kept.scene is None:
        return shown
    scene = (session.out / kept.scene).read_bytes()
    return shown + scene_html(scene, BEFORE_TITLE, {view: data_uri(files[view]) for view in kept.slices})


def _facts(one: ListedEdit) -> dict[str, Any]:
    edit = one.edit
    place = ", ".join(f"{c:,.0f}" for c in edit.location_nm)
    values: dict[str, Any] = {
        "Question": QUESTIONS[edit.operation].partition(" Accept")[0],
        "Confidence": probability_bar(edit.confidence),
        "P(error here)": None if edit.identification is None else probability_bar(edit.identification),
        "P(right correction)": None if edit.correction is None else probability_bar(edit.correction),
        "Expected gain": f"{one.value:.3g} bits"
        + (f" now, {edit.value:.3g} when it was proposed" if one.value != edit.value else ""),
        "Objects before": ", ".join(map(str, edit.before)),
        "Objects after": ", ".join(map(str, edit.after)),
        "Place (x, y, z)": f"{place} nm",
        "Found at": edit.candidate,
        "Round": edit.round,
        "Edit": edit.edit_id,
    }
    return {name: value for name, value in values.items() if value not in (None, "")}
