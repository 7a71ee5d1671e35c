"""Settings of the source `cave`: dataset, requests, surveys."""

from __future__ import annotations

from dataclasses import dataclass, field

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.ids import ExactId, exact_id
from connectomebench.sources.label_shapes import MeshConfig, SkeletonConfig


@dataclass(frozen=True)
class RootsConfig:
    """Segments that count as proofread; set at most one of ``table``, ``changed_since``, ``ids`` and ``file``.

    Attributes
    ----------
    table
        A materialised table of proofread cells, with a supervoxel (``pt_supervoxel_id``) for each; it is followed to
        the root that covers it at ``until``. That of the species where nothing is given.
    changed_since
        Take the roots that were made by an edit since this time (ISO 8601, UTC), for datasets without such a table.
    ids
        Root ids; one that is out of date is followed to its descendant with the largest share of it.
    file
        A file of root ids, relative to the configuration file: one a line, or a table (CSV, Parquet) with a column
        ``root_id``;
        followed as ``ids`` are.
    most
        Take at most this many, those with the smallest ids.
    compare
        Compare this many roots with their ancestors supervoxel by supervoxel, and note in the manifest how much of the
        difference the operations explain. Each asks for all supervoxels of a neuron.
    """

    table: str | None = None
    changed_since: str | None = None
    ids: tuple[ExactId, ...] | None = None
    file: str | None = None
    most: int | None = None
    compare: int = 0

    def __post_init__(self) -> None:
        given = [n for n in ("table", "changed_since", "ids", "file") if getattr(self, n) is not None]
        if len(given) > 1:
            raise ConnectomeBenchError(f"source.cave.roots has {' and '.join(given)}; give one of them")
        for place, root in enumerate(self.ids or (), start=1):
            try:
                exact_id(root)
            except ValueError as error:
                raise ConnectomeBenchError(f"source.cave.roots.ids, entry {place}: {error}") from None
        if self.most is not None and self.most < 1:
            raise ConnectomeBenchError(f"source.cave.roots.most must be at least 1, not {self.most}")
        if self.compare < 0:
            raise ConnectomeBenchError(f"source.cave.roots.compare must be at least 0, not {self.compare}")


@dataclass(frozen=True)
class RequestConfig:
    """Batch sizes, retries and time limits of requests.

    Attributes
    ----------
    roots_per_request, operations_per_request, supervoxels_per_request
        Ids in one request. Those of operations go into the address, which servers cut at some 8,000 characters.
    attempts
        Times a request is tried where the server is away, is busy (429, 502, 503, 504), drops it, is too slow, or
        sends too little. A 500 is tried four times, since the ChunkedGraph also answers unknown ids with it.
    wait_s, longest_wait_s
        First wait, doubled each time and varied at random, and the longest, in seconds. A server's own Retry-After
        comes first. With 12 attempts these waits add up to two and a half minutes on average; for a server that is away
        longer, give more attempts or longer waits.
    timeout_s
        Time for a connection, and between two parts of an answer, in seconds.
    read_s
        Time for one read of blocks or meshes from cloud storage, with the tries that cloud-files makes by itself, in
        seconds.
    """

    roots_per_request: int = 50
    operations_per_request: int = 100
    supervoxels_per_request: int = 100_000
    attempts: int = 12
    wait_s: float = 0.5
    longest_wait_s: float = 60.0
    timeout_s: float = 120.0
    read_s: float = 900.0

    def __post_init__(self) -> None:
        for name in ("roots_per_request", "operations_per_request", "supervoxels_per_request", "attempts"):
            if getattr(self, name) < 1:
                raise ConnectomeBenchError(f"source.cave.requests.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("wait_s", "longest_wait_s", "timeout_s", "read_s"):
            if getattr(self, name) <= 0:
                raise ConnectomeBenchError(f"source.cave.requests.{name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True)
class SurveyConfig:
    """Cube, resolution and thresholds of the survey around each edit.

    Attributes
    ----------
    cutout_nm
        Edge of the cube read around an edit, nm. Views lie inside it: at least twice the largest view.
    label_voxel_nm, image_voxel_nm
        Of labels, and of image data with the labels outlined on them, the coarsest level whose voxels are at most this
        long along x is read, nm.
    min_body_voxels
        A segment is fused where at least this many of its voxels (of the level read) in the cube belong to a second
        body; between a fifth of this and this it is neither fused nor clean, and nothing is made from it.
    min_contact_faces
        Smaller contacts are left out.
    neighbours
        Neighbours of the edited segments that are kept for controls at each edit, those with the largest contact.
    border_nm
        A place nearer than this to a face of the volume lies at its border, nm.
    certain_voxels
        No control is where at least this many connected voxels of the segment's body lie outside the segment, or of a
        second body inside it; nor where fewer do that go on beyond what is looked at.
    places_per_batch
        Edits that are surveyed together, next to each other.
    """

    cutout_nm: float = 16000.0
    label_voxel_nm: float = 64.0
    image_voxel_nm: float = 16.0
    min_body_voxels: int = 1000
    min_contact_faces: int = 10
    neighbours: int = 6
    border_nm: float = 500.0
    certain_voxels: int = 50
    places_per_batch: int = 16

    @property
    def inner_nm(self) -> float:
        """Edge of the inner cube of possible sites, nm: a view of half the cube fits around each of them."""
        return 0.45 * self.cutout_nm

    def __post_init__(self) -> None:
        for name in (
            "cutout_nm",
            "label_voxel_nm",
            "image_voxel_nm",
            "neighbours",
            "places_per_batch",
            "certain_voxels",
        ):
            if getattr(self, name) <= 0:
                raise ConnectomeBenchError(f"source.cave.survey.{name} must be above 0, not {getattr(self, name)}")


@dataclass(frozen=True)
class TablesConfig:
    """Materialised tables that tell what whole segments are, and how many of these are taken.

    Attributes
    ----------
    nuclei
        Table of nuclei: ``id``, ``pt_supervoxel_id`` and, where it has them, ``bb_start_position`` and
        ``bb_end_position``. That of the species where left out.
    cell_types
        Table of cell types: ``classification_system`` and ``cell_type``, with ``target_id`` (of a nucleus) or a
        ``pt_supervoxel_id`` of its own. That of the species where left out; ``none`` for none.
    most
        Take at most this many segments with one nucleus, with several, of other cells, and without; which ones, a hash
        of their ids decides.
    max_nodes
        Leave out segments with more level-2 nodes than this: each is a mesh to fetch.
    """

    nuclei: str | None = None
    cell_types: str | None = None
    most: int = 200
    max_nodes: int = 20_000

    def __post_init__(self) -> None:
        for name in ("most", "max_nodes"):
            if getattr(self, name) < 1:
                raise ConnectomeBenchError(f"source.cave.tables.{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class CaveConfig:
    """A dataset on a CAVE server. Defaults come from the species and from the info of the server.

    Attributes
    ----------
    roots
        Which segments count as proofread.
    until
        State that counts as the truth (ISO 8601, UTC); the moment of the first run where left out, which is then kept
        with the build.
    server, datastack
        Global server and datastack.
    graph_table
        Name of the ChunkedGraph on ``server``; with it no info service is asked, and ``image`` must be given.
    segmentation, image
        CloudVolume paths (``graphene://`` and ``precomputed://``). ``image: none`` leaves image data out.
    license, citation
        Of the data. Where they are left out, those of the species' own datastack; for any other one the card says that
        they were not stated.
    meshes
        ``level2`` fetches the server's meshes, ``voxels`` makes them from the labels, for servers without a mesh
        service.
    cache_gb
        Size limit of the cache of fetched data, GB (10⁹ bytes). It lies in the cache folder of the build, or in the
        folder named by the environment variable CONNECTOMEBENCH_CACHE, such as a local disk of a cluster machine.
    max_failed_share
        Edits that cannot be surveyed are left out and counted; above this share the build stops.
    tables
        Tables of nuclei and cell types, for `segment_classification`.
    """

    roots: RootsConfig = field(default_factory=RootsConfig)
    until: str | None = None
    server: str | None = None
    datastack: str | None = None
    graph_table: str | None = None
    segmentation: str | None = None
    image: str | None = None
    license: str | None = None
    citation: str | None = None
    meshes: str = "level2"
    cache_gb: float = 20.0
    max_failed_share: float = 0.05
    requests: RequestConfig = field(default_factory=RequestConfig)
    survey: SurveyConfig = field(default_factory=SurveyConfig)
    mesh: MeshConfig = field(default_factory=MeshConfig)
    skeleton: SkeletonConfig = field(default_factory=SkeletonConfig)
    tables: TablesConfig = field(default_factory=TablesConfig)

    def __post_init__(self) -> None:
        if self.meshes not in ("level2", "voxels"):
            raise ConnectomeBenchError(f"source.cave.meshes must be level2 or voxels, not {self.meshes!r}")
        if self.cache_gb <= 0:
            raise ConnectomeBenchError(f"source.cave.cache_gb must be above 0, not {self.cache_gb}")
        if not 0 <= self.max_failed_share <= 1:
            raise ConnectomeBenchError(
                f"source.cave.max_failed_share must be between 0 and 1, not {self.max_failed_share}"
            )
