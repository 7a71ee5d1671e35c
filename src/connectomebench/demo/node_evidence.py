"""Show what a model of places makes of each node of a sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from connectomebench.core.places import nodes_in
from connectomebench.demo.html import probability_bar, table
from connectomebench.demo.place_views import place_words

_SHOWN = 8
_HEAD = Markup(
    '<h3 class="cb-section">{} answers {}</h3><p class="cb-soft">It scores every node by itself, from the pictures at '
    "its place.{}</p>"
)


def node_evidence_html(name: str, answer: str, scores: NDArray[np.float64], row: Mapping[str, Any]) -> Markup:
    """Show a model's answer and the nodes that it scores highest.

    Parameters
    ----------
    name
        Of the model.
    answer
        Its answer (:mod:`connectomebench.core.places`).
    scores
        Of each node, in the order of their numbers, shape (n,): how likely it is that of the right answer.
    row
        Small columns of the sample.
    """
    numbers = list(nodes_in(row["question"]))
    best = np.argsort(-scores, kind="stable")[:_SHOWN]
    rows = [(f"node {numbers[i]}", probability_bar(float(scores[i]))) for i in best]
    more = f" Below are the {_SHOWN} best of {len(numbers)}." if len(numbers) > _SHOWN else ""
    heading = _HEAD.format(name, place_words(answer, row), more)
    return heading + table(f"Nodes as {name} scores them", ("Node", "Probability that it is the right one"), rows)
