"""Bodies that are known to be whole and different: two of them are never joined."""

from __future__ import annotations

from dataclasses import dataclass

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Point


@dataclass(frozen=True)
class TrustedConfig:
    """What `connectomebench proofread` never joins with each other.

    Attributes
    ----------
    segments
        Ids of segments that people checked, or that hold a soma.
    somas_nm
        Points in somas (x, y, z), nm.
    soma_radius_nm
        A soma is where a ball of this radius fits inside an object, nm; None searches for none. The default lies above
        the calibre of most neurites and below the radius of most neuronal somas (some 2 to 8 µm).
    """

    segments: tuple[int, ...] = ()
    somas_nm: tuple[Point, ...] = ()
    soma_radius_nm: float | None = 2000.0

    def __post_init__(self) -> None:
        if self.soma_radius_nm is not None and not self.soma_radius_nm > 0:
            raise ConnectomeBenchError(f"trusted.soma_radius_nm is {self.soma_radius_nm}; it must be above 0, or null")
        if any(not 0 < one < 2**64 for one in self.segments):
            raise ConnectomeBenchError("trusted.segments must be ids of segments, above 0")
