"""One sentence on the truth at a site, computed from its meshes, voxels and bodies."""

from __future__ import annotations

from collections.abc import Sequence

from connectomebench.build.meeting import FACING_NM, Meeting, facing_nm2, measure_meeting, touching_nm2
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Site
from connectomebench.core.volume import Volume


def truth_sentence(site: Site, meshes: Sequence[Mesh], labels: Volume | None = None) -> str:
    """Say what is really there.

    Parameters
    ----------
    site
        With its bodies.
    meshes
        Mesh of each part, in the order of ``site.parts``.
    labels
        Segment of each voxel, for the area of contact; without them it is that over which the surfaces face each other.

    Returns
    -------
    str
        For two segments how near they come, by which angle their directions differ there, over which area they touch,
        how thick each is there, and whether they are one neuron; what cannot be measured is left out. For a proposed
        cut over which area its two sides face each other, how thick each is there, how many neurons the segment holds,
        and whether the cut is right. For one segment how many neurons it holds. Empty where the bodies are not known.

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
        found = measure_meeting(site, *meshes)
        if found is not None:
            truth = "They are one neuron." if len(bodies) == 1 else "They are two neurons."
            said = [_nearness(found), _contact(site, meshes, labels), _calibres(found), truth]
            return " ".join(one for one in said if one)
    if len(site.parts) == 2 and roles == {"source", "sink"}:
        return " ".join(one for one in (_cut_faces(site, meshes), _held(bodies), _verdict(site)) if one)
    if len(site.segment_ids) == 1:
        return _held(bodies)
    return f"What is shown belongs to {'one neuron' if len(bodies) == 1 else f'{len(bodies)} neurons'}."


def _held(bodies: set[int]) -> str:
    return f"This segment holds {'parts of one neuron' if len(bodies) == 1 else f'{len(bodies)} neurons'} here."


def _verdict(site: Site) -> str:
    return "The proposed cut is right." if site.answer == "yes" else "The proposed cut is wrong."


def _cut_faces(site: Site, meshes: Sequence[Mesh]) -> str:
    """Say how the two sides of a cut meet; their labels are one segment's, so surfaces are measured."""
    if any(mesh.is_empty for mesh in meshes):
        return ""
    area = facing_nm2(site, *meshes)
    found = measure_meeting(site, *meshes)
    apart = (
        f"The sides of the cut lie within {FACING_NM:.0f} nm of each other over {_rounded(area)} nm²." if area else ""
    )
    thick = _calibres(found) if found is not None else ""
    return " ".join(one for one in (apart, thick) if one)


def _nearness(found: Meeting) -> str:
    near = f"The two come within {_rounded(found.distance_nm)} nm of each other"
    if found.angle_deg is None:
        return f"{near}."
    return f"{near}, and their directions there differ by {found.angle_deg:.0f}°."


def _contact(site: Site, meshes: Sequence[Mesh], labels: Volume | None) -> str:
    if labels is not None:
        area = touching_nm2(labels, site, *(part.segment_id for part in site.parts))
        return f"They touch over {_rounded(area)} nm²." if area else "They do not touch."
    area = facing_nm2(site, *meshes)
    return f"Their surfaces lie within {FACING_NM:.0f} nm of each other over {_rounded(area)} nm²." if area else ""


def _calibres(found: Meeting) -> str:
    if found.calibres_nm is None or min(found.calibres_nm) <= 0:
        return ""
    first, second = (_rounded(one) for one in found.calibres_nm)
    return f"They are about {first} nm and {second} nm thick there."


def _rounded(value: float) -> str:
    """Two digits are as much as vertices of a mesh allow."""
    return f"{float(f'{value:.2g}'):,.0f}"
