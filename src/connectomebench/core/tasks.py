"""The ten tasks: question, kind of answer, views, labels and published baselines.

Sample counts and human baselines are those published with ConnectomeBench / ConnectomeVLM.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from connectomebench.core.errors import unknown_name

AnswerKind = Literal["yes_no", "choice", "point", "points", "mask"]

MESH_VIEWS = ("front", "side", "top")
EM_VIEWS = ("em_xy", "em_xz", "em_yz")
YES_NO = ("no", "yes")


@dataclass(frozen=True)
class Task:
    """One question about a location in a segmentation.

    Attributes
    ----------
    name
        Name of the dataset and of the `task` column.
    title
        Name for people.
    question
        The text in the `question` column.
    answer_kind
        How the answer is given.
    labels
        Names of the ClassLabel of the `label` column, in the order of its integers; empty where the answer is a place.
    views
        Names of the images, in the order of the `images` column.
    roles
        What is drawn, in order.
    correction
        Correction that the task is about: ``merge`` corrects split errors, ``split`` corrects merge errors.
    published_samples
        Number of samples in the published dataset after filtering; None where unpublished.
    published_people
        Correct samples of each person in the published human evaluation, and their total (mouse; both people
        saw the same ones). Empty where there was none.
    """

    name: str
    title: str
    question: str
    answer_kind: AnswerKind
    labels: tuple[str, ...]
    views: tuple[str, ...]
    roles: tuple[str, ...]
    correction: Literal["merge", "split", "none"]
    published_samples: int | None = None
    published_people: tuple[tuple[int, int], ...] = ()

    @property
    def has_em(self) -> bool:
        """True where the images include slices of image data."""
        return any(v in EM_VIEWS for v in self.views)


_INTRO = "You see a neuron segment from an automatic segmentation of a brain volume"

_TASKS = (
    Task(
        "merge_action",
        "Split error correction",
        f"{_INTRO} (blue) and a second segment that touches it (orange), in three orthographic views "
        "(front, side, top) centred on the place where they meet. Should these two segments be merged into one "
        "neuron? Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS,
        ("base", "candidate"),
        "merge",
        13020,
        ((29, 31), (28, 31)),
    ),
    Task(
        "merge_action_multiple_choice",
        "Split error correction, multiple choice",
        f"{_INTRO} (blue) with up to four candidates (orange), three views each. Which candidate, if any, continues "
        "the blue segment? Answer a, b, c, d or none.",
        "choice",
        ("a", "b", "c", "d", "none"),
        MESH_VIEWS,
        ("base", "candidate"),
        "merge",
        6301,
    ),
    Task(
        "endpoint_error_identification",
        "Split error identification without image data",
        f"{_INTRO} (blue) in three orthographic views (front, side, top) centred on one of its ends. "
        "Is this end a split error, so that the neuron really goes on? Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS,
        ("base",),
        "merge",
        2048,
    ),
    Task(
        "endpoint_error_identification_with_em",
        "Split error identification",
        f"{_INTRO} (blue) in three orthographic views (front, side, top) centred on one of its ends, and three slices "
        "of the image data (xy, xz, yz) through that place with the segment outlined in blue. "
        "Is this end a split error, so that the neuron really goes on? Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS + EM_VIEWS,
        ("base",),
        "merge",
        1000,
    ),
    Task(
        "endpoint_localization",
        "Split error localization",
        f"{_INTRO} in three views with numbered points. Where is the segment wrongly cut? "
        "Answer with coordinates in nm.",
        "point",
        (),
        MESH_VIEWS,
        ("base",),
        "merge",
        2691,
    ),
    Task(
        "merge_error_identification",
        "Merge error identification",
        f"{_INTRO} (blue) in three orthographic views (front, side, top) centred on one of its branch points. "
        "Are two different neurons fused at this place? Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS,
        ("base",),
        "split",
        11998,
        ((23, 31), (22, 31)),
    ),
    Task(
        "split_action",
        "Split action evaluation",
        f"{_INTRO} that may fuse several neurons, and a proposed cut: the two parts are drawn in blue and orange, in "
        "three orthographic views (front, side, top) centred on the cut. Is this the right way to split the segment? "
        "Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS,
        ("source", "sink"),
        "split",
        9542,
    ),
    Task(
        "split_proposal",
        "Split proposal",
        f"{_INTRO} in three views with numbered points. Where should it be split? Answer with source and sink "
        "coordinates in nm.",
        "points",
        (),
        MESH_VIEWS,
        ("base",),
        "split",
        7060,
    ),
    Task(
        "split_mask_generation",
        "Split mask generation",
        f"{_INTRO} (blue) that fuses two neurons, in three orthographic views (front, side, top) centred near the place "
        "where they are fused. Which part of what you see does the right split take away? Mark its pixels in every view; "
        "of the two parts it is the one that covers fewer pixels of all views together.",
        "mask",
        (),
        MESH_VIEWS,
        ("base",),
        "split",
    ),
    Task(
        "segment_identity",
        "Segment identity",
        "Do these two images show the same segment? Answer yes or no.",
        "yes_no",
        YES_NO,
        ("first", "second"),
        ("base",),
        "none",
        3976,
    ),
    Task(
        "segment_classification",
        "Segment classification",
        f"{_INTRO}, whole, in three orthographic views. What is it? Answer a (one soma and its processes), "
        "b (several somas and processes), c (processes without a soma), d (a nucleus), e (something else that is not a "
        "neuron), f (cannot be told) or g (none of these).",
        "choice",
        ("a", "b", "c", "d", "e", "f", "g"),
        MESH_VIEWS,
        ("base",),
        "none",
    ),
)

TASKS: dict[str, Task] = {t.name: t for t in _TASKS}


def get_task(name: str) -> Task:
    """Return a task by name.

    Raises
    ------
    ConnectomeBenchError
        If there is no such task; the message names the nearest ones.

    Examples
    --------
    >>> from connectomebench import get_task
    >>> task = get_task("split_action")
    >>> task.labels
    ('no', 'yes')
    >>> task.views
    ('front', 'side', 'top')
    """
    try:
        return TASKS[name]
    except KeyError:
        raise unknown_name("task", name, TASKS) from None
