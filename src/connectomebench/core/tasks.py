"""The tasks: question, kind of answer, views, labels, how answers are balanced and scored, published baselines.

All that the steps need to know of a task stands here; none of them asks for a task by its name. What finds the sites of
a task is in the table of :mod:`connectomebench.sites.site_rules`.

Sample counts and human baselines are those published with ConnectomeBench / ConnectomeVLM.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from connectomebench.core.errors import unknown_name

AnswerKind = Literal["yes_no", "choice", "point", "points", "mask"]
Balance = Literal["pairs", "none_share", "classes", "free"]
Scoring = Literal["exact", "places", "masks"]
CandidateKind = Literal["end", "branch", "waist", "parallel", "interface"]

MESH_VIEWS = ("front", "side", "top")
EM_VIEWS = ("em_xy", "em_xz", "em_yz")
PAIR_VIEWS = ("first", "second")
SHAPE_VIEWS = MESH_VIEWS + PAIR_VIEWS
"""All views of meshes."""
YES_NO = ("no", "yes")
NONE = "none"
"""Answer to a choice among candidates where none is right."""
ANY = "any"
"""Stands for all answers of a task where they are places or masks."""
SPLIT_ERROR_KINDS: tuple[CandidateKind, ...] = ("end",)
MERGE_ERROR_KINDS: tuple[CandidateKind, ...] = ("branch", "waist", "parallel", "interface")


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
    balance
        How answers are balanced within a partition. ``pairs``: each case has one control that looks alike to a trivial
        model. ``none_share``: a fifth of the rows has the answer none, and looks like the others to a trivial model.
        ``classes``: the most frequent answer at most a few times as often as the second. ``free``: all rows.
    scoring
        ``exact``: an answer is right or wrong. ``places``: the nearer to the right places, the better. ``masks``: by
        the overlap with the true masks.
    candidates
        Kinds of candidate places that the task asks about; empty where its places come from elsewhere.
    whole
        The views show whole segments. They are as wide as much of the volume, so that what counts as shared between two
        partitions is the segment, not the place.
    untrained
        Answers that no training row has, as published.
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
    published_people: tuple[tuple[int, int], ...] = ()
    balance: Balance = "pairs"
    scoring: Scoring = "exact"
    candidates: tuple[CandidateKind, ...] = ()
    whole: bool = False
    untrained: tuple[str, ...] = ()

    @property
    def has_em(self) -> bool:
        """True where the images include slices of image data."""
        return any(v in EM_VIEWS for v in self.views)

    @property
    def has_candidates(self) -> bool:
        """True where one answers by choosing among candidates, each with views of its own."""
        return NONE in self.labels

    def views_of(self, choices: int = 0) -> tuple[str, ...]:
        """Return the names of the images of a sample, in order.

        Parameters
        ----------
        choices
            Number of candidates to choose from; 0 for tasks without candidates.

        Examples
        --------
        >>> from connectomebench import get_task
        >>> get_task("merge_action_multiple_choice").views_of(2)
        ('a_front', 'a_side', 'a_top', 'b_front', 'b_side', 'b_top')
        """
        if not self.has_candidates:
            return self.views
        return tuple(f"{letter}_{view}" for letter in self.labels[:choices] for view in self.views)

    def labels_of(self, choices: int = 0) -> tuple[str, ...]:
        """Return the answers that a sample with so many candidates can have; all labels of tasks without candidates."""
        return (*self.labels[:choices], NONE) if self.has_candidates and choices else self.labels

    def for_views(self, views: Sequence[str]) -> Task:
        """Return the task with the labels that a sample with these images can have.

        Examples
        --------
        >>> from connectomebench import get_task
        >>> get_task("merge_action_multiple_choice").for_views(["a_front", "a_side", "a_top"]).labels
        ('a', 'none')
        """
        if not self.has_candidates:
            return self
        letters = {candidate_view(view)[0] for view in views} - {""}
        return replace(self, labels=self.labels_of(len(letters)))

    def ask(self, choices: int = 0) -> str:
        """Return the question, which names the candidates that there are."""
        if not self.has_candidates or not choices:
            return self.question
        letters = self.labels[:choices]
        shown = "one candidate" if choices == 1 else f"{_NUMBERS[choices]} candidates"
        each = "" if choices == 1 else " each"
        return (
            f"{_INTRO} (blue) centred on one of its ends, with {shown} (orange; {', '.join(letters)}) in three "
            f"orthographic views (front, side, top){each}. Which candidate, if any, continues the blue segment? "
            f"Answer {', '.join(letters)} or {NONE}."
        )

    def is_case(self, answer: str) -> bool:
        """Tell whether an answer stands for a case: something is there to be found."""
        return answer not in ("no", NONE)

    def class_of(self, answer: str) -> str:
        """Return the class of an answer: what is balanced, and what every partition needs.

        The answer itself where it is one of a set; for a choice among candidates whether one is right
        (``choice`` or ``none``), since letters are drawn by lot; empty where all answers are of one class.
        """
        if self.has_candidates:
            return answer if answer == NONE else "choice"
        return answer if self.balance in ("pairs", "classes") else ""

    def counted_as(self, answer: str) -> str:
        """Return the name under which an answer is counted: itself, or ``any`` where answers are places or masks."""
        return answer if self.labels else ANY


_NUMBERS = ("no", "one", "two", "three", "four")
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
        ((29, 31), (28, 31)),
    ),
    Task(
        "merge_action_with_em",
        "Split error correction with image data",
        f"{_INTRO} (blue) and a second segment that touches it (orange), in three orthographic views "
        "(front, side, top) centred on the place where they meet, and three slices of the image data (xy, xz, yz) "
        "through that place with the segments tinted in blue and orange. Should these two segments be merged into "
        "one neuron? Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS + EM_VIEWS,
        ("base", "candidate"),
        "merge",
    ),
    Task(
        "merge_action_multiple_choice",
        "Split error correction, multiple choice",
        f"{_INTRO} (blue) centred on one of its ends, with up to four candidates (orange), each in three orthographic "
        "views (front, side, top). Which candidate, if any, continues the blue segment? Answer a, b, c, d or none.",
        "choice",
        ("a", "b", "c", "d", NONE),
        MESH_VIEWS,
        ("base", "candidate"),
        "merge",
        balance="none_share",
        candidates=SPLIT_ERROR_KINDS,
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
        candidates=SPLIT_ERROR_KINDS,
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
        candidates=SPLIT_ERROR_KINDS,
    ),
    Task(
        "endpoint_localization",
        "Split error localization",
        f"{_INTRO} (blue) in three orthographic views (front, side, top) with numbered nodes. The segment is only a "
        "part of its neuron: at one place in the view it was wrongly cut off from the rest. Where? Answer with the "
        "coordinates of that place, x, y, z in nm relative to the centre of the views, or with the number of the node "
        "nearest to it.",
        "point",
        (),
        MESH_VIEWS,
        ("base",),
        "merge",
        balance="free",
        scoring="places",
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
        ((23, 31), (22, 31)),
        candidates=MERGE_ERROR_KINDS,
    ),
    Task(
        "merge_error_identification_with_em",
        "Merge error identification with image data",
        f"{_INTRO} (blue) in three orthographic views (front, side, top) centred on one of its branch points, and "
        "three slices of the image data (xy, xz, yz) through that place with the segment outlined in blue. "
        "Are two different neurons fused at this place? Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS + EM_VIEWS,
        ("base",),
        "split",
        candidates=MERGE_ERROR_KINDS,
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
    ),
    Task(
        "split_action_with_em",
        "Split action evaluation with image data",
        f"{_INTRO} that may fuse several neurons, and a proposed cut: the two parts are drawn in blue and orange, in "
        "three orthographic views (front, side, top) centred on the cut, and tinted in blue and orange on three slices "
        "of the image data (xy, xz, yz) through that place. Is this the right way to split the segment? "
        "Answer yes or no.",
        "yes_no",
        YES_NO,
        MESH_VIEWS + EM_VIEWS,
        ("source", "sink"),
        "split",
    ),
    Task(
        "split_proposal",
        "Split proposal",
        f"{_INTRO} (blue) that fuses two neurons, in three orthographic views (front, side, top) with numbered nodes. "
        "Where should it be split? Answer with a point on either side of the right cut, as near to it as the nodes "
        "allow: sources on one side, sinks on the other, as coordinates in nm relative to the centre of the views or "
        "as numbers of nodes.",
        "points",
        (),
        MESH_VIEWS,
        ("base",),
        "split",
        balance="free",
        scoring="places",
    ),
    Task(
        "split_mask_generation",
        "Split mask generation",
        f"{_INTRO} (blue) that fuses two neurons, in three orthographic views (front, side, top) centred near the "
        "place where they are fused. Which part of what you see does the right split take away? Mark its pixels in "
        "every view; of the two parts it is the one that covers fewer pixels of all views together.",
        "mask",
        (),
        MESH_VIEWS,
        ("base",),
        "split",
        balance="free",
        scoring="masks",
        candidates=MERGE_ERROR_KINDS,
    ),
    Task(
        "segment_identity",
        "Segment identity",
        "You see two images, each of one neuron segment from an automatic segmentation of a brain volume (blue), seen "
        "from different directions and at different zoom. If they show the same segment, they show the same part of "
        "it. Do these two images show the same segment? Answer yes or no.",
        "yes_no",
        YES_NO,
        PAIR_VIEWS,
        ("base",),
        "none",
    ),
    Task(
        "segment_classification",
        "Segment classification",
        f"{_INTRO} (blue), whole, in three orthographic views (front, side, top). What is it? Answer a (one soma and "
        "its processes), b (several somas and processes), c (processes without a soma), d (a nucleus), e (something "
        "else that is not a neuron), f (cannot be told) or g (none of these).",
        "choice",
        ("a", "b", "c", "d", "e", "f", "g"),
        MESH_VIEWS,
        ("base",),
        "none",
        balance="classes",
        whole=True,
        untrained=("e", "f", "g"),
    ),
)


def candidate_view(view: str) -> tuple[str, str]:
    """Split the name of a view into the letter of the candidate it shows and the view; no letter without candidates.

    Examples
    --------
    >>> from connectomebench.core.tasks import candidate_view
    >>> candidate_view("b_side"), candidate_view("em_xy")
    (('b', 'side'), ('', 'em_xy'))
    """
    letter, _, own = view.partition("_")
    return (letter, own) if own in MESH_VIEWS else ("", view)


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
