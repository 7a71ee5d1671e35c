"""Combine several segmentations of one volume that share truth and space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.geometry import Mesh
from connectomebench.core.site import Site
from connectomebench.core.source import EMSlice, Source, SourceInfo


class SegmentationFamily:
    """Several segmentations of one volume; implements :class:`connectomebench.core.source.SiteSource`.

    The ``segmentation`` of a site names the one it shows.

    Parameters
    ----------
    name, version
        Of the volume. A hash of the members' versions is added to the version.
    members
        Name -> source over that segmentation. Truth, scale and bounds are the same in all; ids of segments are not.
    same_place_nm
        Places of the same bodies no further apart than this are one correction, nm.

    Raises
    ------
    ConnectomeBenchError
        If the members do not cover the same place at the same scale.
    """

    def __init__(self, name: str, version: str, members: Mapping[str, Source], same_place_nm: float) -> None:
        self.members = dict(members)
        self.same_place_nm = same_place_nm
        infos = {key: member.info for key, member in self.members.items()}
        first_name, first = next(iter(infos.items()))
        for key, info in infos.items():
            if (info.bounds_nm, info.voxel_nm3) != (first.bounds_nm, first.voxel_nm3):
                raise ConnectomeBenchError(
                    f"segmentations {first_name} and {key} of {name} do not cover the same voxels; crop or resample one"
                )
        own = content_key({key: info.version for key, info in infos.items()})[:12]
        self._info = replace(first, name=name, version=f"{version}+{own}", segmentations=infos)

    @property
    def info(self) -> SourceInfo:
        """Return provenance and scale of all members together."""
        return self._info

    def of(self, site: Site) -> Source:
        """Return the source over the segmentation that a site shows."""
        assert site.segmentation is not None, "a site of a family names its segmentation"
        return self.members[site.segmentation]

    def meshes(self, site: Site) -> list[Mesh]:
        """See :meth:`connectomebench.core.source.SiteSource.meshes`."""
        return self.of(site).meshes(site)

    def em_slices(self, site: Site, pixels: int) -> dict[str, EMSlice] | None:
        """See :meth:`connectomebench.core.source.SiteSource.em_slices`."""
        return self.of(site).em_slices(site, pixels)

    def em_pages(self, site: Site, pixels: int, offsets_nm: Sequence[float]) -> dict[str, list[EMSlice]] | None:
        """See :meth:`connectomebench.core.source.SiteSource.em_pages`."""
        return self.of(site).em_pages(site, pixels, offsets_nm)
