"""Plain-language explanations of the tasks, for readers new to connectomics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from connectomebench.core.tasks import EM_VIEWS, MESH_VIEWS, PAIR_VIEWS, Scoring, get_task
from connectomebench.core.view_layout import view_caption


@dataclass(frozen=True)
class Explanation:
    """A plain-language explanation of a task.

    Attributes
    ----------
    question
        What is asked about the pictures.
    why
        Why anybody asks.
    answers
        What each answer means; answers that are not named speak for themselves.
    """

    question: str
    why: str
    answers: dict[str, str]


_PLAIN = {
    "merge_action": Explanation(
        "Do the blue and the orange piece belong to the same neuron?",
        "A segmentation that broke a neuron is mended by joining its pieces again. Joining pieces of two different "
        "neurons would do damage instead.",
        {
            "yes": "Both pieces are one neuron. Joining them mends a split error.",
            "no": "The pieces touch but are two different neurons. Joining them would make a merge error.",
        },
    ),
    "merge_action_with_em": Explanation(
        "Do the blue and the orange piece belong to the same neuron?",
        "A segmentation that broke a neuron is mended by joining its pieces again. The slices of image data show "
        "whether a membrane runs between the two.",
        {
            "yes": "Both pieces are one neuron. Joining them mends a split error.",
            "no": "The pieces touch but are two different neurons. Joining them would make a merge error.",
        },
    ),
    "merge_action_multiple_choice": Explanation(
        "Which orange piece belongs to the same neuron as the blue one?",
        "Where a piece ends, several others lie near. A proofreader has to find the one that the neuron goes on in, or "
        "see that none of them is.",
        {"none": "None of these pieces continues the blue one."},
    ),
    "endpoint_error_identification_with_em": Explanation(
        "Was the blue piece cut off here by mistake, so that the neuron really goes on?",
        "Every branch of a neuron ends somewhere. Most ends are real; some are places where the segmentation lost "
        "the neuron. The slices of image data show what lies beyond the end.",
        {
            "yes": "The neuron goes on: a split error lies at this end.",
            "no": "The neuron really ends here.",
        },
    ),
    "endpoint_error_identification": Explanation(
        "Was the blue piece cut off here by mistake, so that the neuron really goes on?",
        "Every branch of a neuron ends somewhere. Most ends are real; some are places where the segmentation lost "
        "the neuron.",
        {
            "yes": "The neuron goes on: a split error lies at this end.",
            "no": "The neuron really ends here.",
        },
    ),
    "endpoint_localization": Explanation(
        "Where was the blue piece wrongly cut off from the rest of its neuron?",
        "A segmentation that broke a neuron is mended where its pieces meet. Whoever finds the place has done most of "
        "the work.",
        {},
    ),
    "split_proposal": Explanation(
        "Where should the blue piece be cut, so that its two neurons come apart?",
        "A segmentation that fused neurons is mended by a cut. A tool computes it from a point on either side; where "
        "these points are decides what is cut.",
        {},
    ),
    "merge_error_identification": Explanation(
        "Are two different neurons glued together at this place?",
        "Neurons branch, but where two neurons merely touch, a segmentation may run from one into the other. "
        "The result looks like a branch and is none.",
        {
            "yes": "Two neurons are fused here: a merge error.",
            "no": "One neuron, with a branch of its own.",
        },
    ),
    "merge_error_identification_with_em": Explanation(
        "Are two different neurons glued together at this place?",
        "Neurons branch, but where two neurons merely touch, a segmentation may run from one into the other. The "
        "slices of image data show whether a membrane runs through the piece.",
        {
            "yes": "Two neurons are fused here: a merge error.",
            "no": "One neuron, with a branch of its own.",
        },
    ),
    "split_action": Explanation(
        "Is this the right cut? It would leave the blue and the orange part as two pieces.",
        "A segmentation that fused neurons is mended by cutting them apart. A cut at the wrong place severs a neuron "
        "or leaves part of it with its neighbour.",
        {
            "yes": "The cut takes two neurons apart and leaves each whole.",
            "no": "The cut severs a neuron, or leaves part of it on the wrong side.",
        },
    ),
    "split_action_with_em": Explanation(
        "Is this the right cut? It would leave the blue and the orange part as two pieces.",
        "A segmentation that fused neurons is mended by cutting them apart. The slices of image data show whether the "
        "cut follows a membrane or goes through the inside of a neuron.",
        {
            "yes": "The cut takes two neurons apart and leaves each whole.",
            "no": "The cut severs a neuron, or leaves part of it on the wrong side.",
        },
    ),
    "split_mask_generation": Explanation(
        "Two neurons are glued together here. Which part of the picture belongs to the one that must go?",
        "Knowing that two neurons are fused is not enough to mend it: one must also see where the one ends and the "
        "other begins. The smaller part is the one to mark.",
        {"mask": "The part to take away is marked in every view."},
    ),
    "segment_identity": Explanation(
        "Do both pictures show the same piece?",
        "The same piece looks different from another side and at another zoom. Who follows a neuron must recognise it.",
        {"yes": "The same piece twice.", "no": "Two different pieces."},
    ),
    "segment_classification": Explanation(
        "What is the blue piece?",
        "Not every piece of a segmentation is a neuron, and a piece with two cell bodies fuses two cells for sure. The "
        "size of the piece stands in the question.",
        {
            "a": "One cell body with its processes: a neuron.",
            "b": "Several cell bodies with processes: neurons that are fused.",
            "c": "Processes alone: part of a neuron.",
            "d": "A nucleus alone.",
            "e": "Something else that is not a neuron, such as glia or a blood vessel.",
            "f": "It cannot be told.",
            "g": "None of these.",
        },
    ),
}


def explain(task: str) -> Explanation:
    """Return the explanation of a task; its question where there is none.

    Raises
    ------
    ConnectomeBenchError
        If there is no such task.
    """
    known = get_task(task)
    return _PLAIN.get(task) or Explanation(known.question, "", {})


VIEW_NAMES = {name: view_caption(name) for name in (*MESH_VIEWS, *EM_VIEWS, *PAIR_VIEWS)}

MODEL_NAMES = {
    "probe": ("Probe", "frozen image encoder and logistic regression, on the pictures"),
    "trivial": ("Trivial features", "brightness and area of each colour (what is seen of sizes) alone"),
    "grey": ("Grey images", "the probe's recipe on uniform grey pictures"),
    "random_node": ("Random node", "one of the drawn nodes, by lot"),
    "lonely_node": ("Loneliest node", "the drawn node farthest from all others"),
    "mask_unet": ("U-Net", "a small network that divides the segment of every view in two"),
    "plane": ("Straight line", "half of each view, by the line that crosses the fewest pixels"),
    "watershed": ("Thinnest neck", "half of each view, at the thinnest neck of the silhouette"),
}
BASELINES = ("trivial", "grey")
NODE_RULES = ("random_node", "lonely_node")
"""Lazy rules whose answers are recorded beside those of a model of places."""
MASK_RULES = ("plane", "watershed")
"""Masks without learning that are recorded beside those of a model of masks."""
COMPARED_MODELS: Mapping[Scoring, tuple[str, ...]] = {
    "exact": ("probe", *BASELINES),
    "places": ("probe", *NODE_RULES),
    "masks": ("mask_unet", *MASK_RULES),
}
"""How a task is scored -> the model that a report is about, then what it must beat."""

CUE_TITLES = {
    "trivial": "brightness and area of each colour",
    "one_piece": "one piece of each colour in every view",
    "silhouette": "pieces, holes, areas and centre shares of the silhouettes",
    "slice": "grey values round the centre of the slices of image data",
    "grey": "size of the pictures",
    "metadata": "sizes of files, place, ids, extent, numbers of segments and pictures",
    "position": "letter of a candidate, and how many there are",
    "largest": "which candidate covers most, against the others",
    "nearest": "which candidate comes nearest to the centre, against the others",
}
"""What each cheap cue (:data:`connectomebench.models.cues.CUES`) looks at."""

PLACE_RULE_TITLES = {
    "centre": "the centre of the views itself",
    "first_node": "the nodes with the lowest numbers",
    "central_node": "the nodes nearest to the centre of the views",
    "outermost_node": "the nodes farthest from the centre of the views",
    "lonely_node": "the nodes farthest from all others",
    "tip_node": "the nodes farthest from the middle of all nodes",
}
"""What each lazy rule for a place (:mod:`connectomebench.models.place_baselines`) answers with."""

ALL_CUE_TITLES = CUE_TITLES | PLACE_RULE_TITLES
"""Every cue that ``connectomebench check`` measures."""

MATCHED_CUES = ("trivial", "silhouette")
"""Cues that controls of a build are matched on: at chance by design, whatever else can be read off the pictures."""

MASK_BASELINES = {
    "empty": "nothing is taken away",
    "all": "everything is taken away",
    "plane": "half of each view, by the line that crosses the fewest pixels",
    "watershed": "half of each view, at the thinnest neck of the silhouette",
}
"""What each mask without learning (:data:`connectomebench.models.mask_baselines.HALVING`) takes away."""

ORIGIN_NAMES = {"edit": "real corrections", "control": "real controls", "simulated": "simulated"}
