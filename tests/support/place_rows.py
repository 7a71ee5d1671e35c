"""Rows that ask for places, with numbered nodes that are drawn into their pictures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from stored_rows import row

from connectomebench.core.places import PlaceAnswer, list_nodes, write_places
from connectomebench.core.tasks import MESH_VIEWS
from connectomebench.rendering.numbered_nodes import draw_nodes

NODES = ((-600.0, -400.0, 0.0), (500.0, -450.0, 300.0), (-300.0, 500.0, -500.0), (650.0, 400.0, 600.0))
"""Nodes of every row, nm relative to the centre; the second lies at the right place, it and the third at the cut."""
EXTENT = 2000.0
HIDDEN = 3
"""A node that is not drawn in the top view."""


def _pictures(number: int, center: tuple[float, float, float], px: int) -> list[bytes]:
    bar = np.full((px, px, 3), 255, np.uint8)
    bar[:, px // 3 : px // 2 + number] = (0, 114, 178)
    seen = {view: np.array([view != "top" or n != HIDDEN for n in (1, 2, 3, 4)]) for view in MESH_VIEWS}
    at = [tuple(np.add(node, center)) for node in NODES]
    files = []
    for picture in draw_nodes(dict.fromkeys(MESH_VIEWS, bar), at, seen, center, EXTENT).values():
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        files.append(stream.getvalue())
    return files


def place_row(number: int, task: str = "endpoint_localization", px: int = 256) -> dict[str, Any]:
    """A row whose right place is 20 nm from node 2, or whose cut runs between nodes 2 and 3."""
    plain = row(number, "any", task)
    x, y, z = plain["location_nm"]
    places = [(520.0, -450.0, 300.0), *([(-300.0, 480.0, -500.0)] if task == "split_proposal" else [])]
    answer = PlaceAnswer((places[0],), tuple(places[1:]))
    listed = list_nodes([(x + a, y + b, z + c) for a, b, c in NODES], (x, y, z))
    return plain | {
        "question": f"{plain['question']}\n{listed}",
        "answer": write_places(answer),
        "target_nm": [[x + a, y + b, z + c] for a, b, c in places],
        "images": [{"bytes": file, "path": None} for file in _pictures(number, (x, y, z), px)],
        "extent_nm": EXTENT,
    }


def partition_place_rows(task: str = "endpoint_localization") -> dict[str, list[dict[str, Any]]]:
    """Two rows in each partition."""
    return {p: [place_row(2 * i + n, task) for n in (0, 1)] for i, p in enumerate(("train", "validation", "test"))}
