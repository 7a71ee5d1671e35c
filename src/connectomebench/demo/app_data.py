"""Data that the tabs of the demo show."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import escape

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.scene_shards import StoredScenes
from connectomebench.demo.recorded_answers import AnswerRecords
from connectomebench.demo.stored_samples import StoredSamples, open_samples
from connectomebench.demo.texts import species_title
from connectomebench.review.review_session import ReviewSession

if TYPE_CHECKING:
    import gradio as gr

SOON: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
"""Options of every event: it is no part of an API, and too quick for a progress bar."""


@dataclass(frozen=True, eq=False)
class AppData:
    """Samples, their scenes, the models' answers to them, and edits of a proofreading; shared by all visitors."""

    samples: StoredSamples
    records: AnswerRecords
    folder: Path
    scenes: StoredScenes
    edits: ReviewSession | None = None

    def tasks(self, species: str) -> list[tuple[str, str]]:
        """Return the tasks of a species: title and name."""
        return [(c.task.title, c.task.name) for c in self.samples.collections.values() if c.species == species]

    def species(self) -> list[tuple[str, str]]:
        """Return all species: title and name."""
        names = dict.fromkeys(species for _, species in self.samples.collections)
        return [(species_title(name), name) for name in names]


@dataclass(frozen=True)
class Tab:
    """A tab of the demo.

    Attributes
    ----------
    name
        Prefix of the ids of its elements.
    title
        Display title.
    build
        Adds components and events within the open tab: ``build(content, blocks, tab)``. Costly content is
        filled in by ``blocks.load`` (first tab) or ``tab.select``.
    useful
        Whether there is anything to show; other tabs are left out.
    """

    name: str
    title: str
    build: Callable[[AppData, gr.Blocks, gr.Tab], None]
    useful: Callable[[AppData], bool] = lambda content: True


def has_samples(content: AppData) -> bool:
    """Tell whether there is any dataset."""
    return bool(content.samples.collections)


def open_content(folder: Path | None, edits: Path | None = None) -> AppData:
    """Open a folder that `connectomebench quickstart` or `build` made; records are read on demand.

    Parameters
    ----------
    folder
        With datasets; None to show edits alone.
    edits
        Output folder of `connectomebench proofread`.

    Raises
    ------
    ConnectomeBenchError
        If there is no dataset in the folder, or no finished proofreading in the other, or neither was given.
    """
    session = None if edits is None else ReviewSession(edits, empty_queue=True)
    if folder is None:
        if edits is None:
            raise ConnectomeBenchError("there is nothing to show; give a folder with datasets, or --edits")
        nothing = StoredSamples({}, {}, {})
        return AppData(nothing, AnswerRecords(edits, nothing), edits, StoredScenes([]), session)
    samples = open_samples(folder)
    folders = {place.file.parent for places in samples.places.values() for place in places}
    return AppData(samples, AnswerRecords(folder, samples), folder, StoredScenes(folders), session)


def show_errors(handler: Callable[..., Any]) -> Callable[..., Any]:
    """Show visitors the message of a :class:`ConnectomeBenchError`; Gradio hides all other errors."""

    @wraps(handler)
    def guarded(*values: Any) -> Any:
        import gradio as gr

        try:
            return handler(*values)
        except ConnectomeBenchError as error:
            # Gradio treats the message as HTML
            raise gr.Error(str(escape(str(error))), duration=8) from None

    return guarded
