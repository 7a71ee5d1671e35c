"""One sentence on the truth at a site, computed from its meshes and bodies."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Point, Site

_MOST = 40_000  # vertices that are compared
_FEWEST = 12  # vertices that give a direction
_LONG = 1.2  # so many times longer than wide is what has a direction


def truth_sentence(site: Site, meshes: Sequence[Mesh]) -> str:
    """Say what is really there.

    Parameters
    ----------
    site
        With its bodies.
    meshes
        Mesh of each part, in the order of ``site.parts``.

    Returns
    -------
    str
        For two segments how near they come and by which angle their directions differ there, and whether they are one
        neuron; for one segment how many neurons it holds. Empty where the bodies are not known.

    Examples
    --------
    >>> import numpy as np
    >>> from connectomebench import Mesh
    >>> from connectomebench.build.truth_sentence import truth_sentence
    >>> from connectomebench.core.site import Part, Site
    >>> x = np.linspace(0, 900, 40, dtype=np.float32)
    >>> line = np.stack([x, 0 * x, 0 * x], axis=1)
    >>> faces = np.zeros((1, 3), np.int32)
    >>> parts = (Part(1, "base"), Part(2, "candidate"))
    >>> site = Site("merge_action", (950, 0, 0), 2000.0, parts, "yes", (1, 2), (7, 7), "edit")
    >>> truth_sentence(site, [Mesh(line, faces), Mesh(line + np.float32([1000, 0, 0]), faces)])
    'The two come within 100 nm of each other, and their directions there differ by 0°. They are one neuron.'
    """
    bodies = set(site.body_ids)
    if not bodies:
        return ""
    roles = {part.role for part in site.parts}
    if len(site.parts) == 2 and roles == {"base", "candidate"} and not any(mesh.is_empty for mesh in meshes):
        first, second = (_inside(mesh, site) for mesh in meshes)
        if len(first) and len(second):
            truth = "They are one neuron." if len(bodies) == 1 else "They are two neurons."
            return f"{_meeting(first, second, site.extent_nm / 2)} {truth}"
    if len(site.segment_ids) == 1:
        return f"This segment holds {'parts of one neuron' if len(bodies) == 1 else f'{len(bodies)} neurons'} here."
    return f"What is shown belongs to {'one neuron' if len(bodies) == 1 else f'{len(bodies)} neurons'}."


def _inside(mesh: Mesh, site: Site) -> NDArray[np.float64]:
    """Return the vertices in the cube shown, at most :data:`_MOST`."""
    points = mesh.vertices_nm.astype(np.float64)
    points = points[(np.abs(points - np.asarray(site.location_nm)) <= site.extent_nm / 2).all(axis=1)]
    return points[:: len(points) // _MOST + 1]


def _meeting(first: NDArray[np.float64], second: NDArray[np.float64], reach_nm: float) -> str:
    distance, nearest = KDTree(second).query(first)
    row = int(np.argmin(distance))
    x, y, z = (float(v) for v in (first[row] + second[int(np.asarray(nearest)[row])]) / 2)
    near = f"The two come within {_rounded(float(distance[row]))} nm of each other"
    axes = [_direction(points, (x, y, z), reach_nm) for points in (first, second)]
    if axes[0] is None or axes[1] is None:
        return f"{near}."
    cosine = min(1.0, abs(float(axes[0] @ axes[1])))
    return f"{near}, and their directions there differ by {np.degrees(np.arccos(cosine)):.0f}°."


def _direction(points: NDArray[np.float64], at: Point, reach_nm: float) -> NDArray[np.float64] | None:
    """Return the main axis of the surface round a place; None where it is hardly longer than wide."""
    own = points[np.linalg.norm(points - np.asarray(at), axis=1) <= reach_nm]
    if len(own) < _FEWEST:
        return None
    _, lengths, axes = np.linalg.svd(own - own.mean(axis=0), full_matrices=False)
    return axes[0] if lengths[0] > _LONG * lengths[1] else None


def _rounded(value: float) -> str:
    """Two digits are as much as vertices of a mesh allow."""
    return f"{float(f'{value:.2g}'):,.0f}"
