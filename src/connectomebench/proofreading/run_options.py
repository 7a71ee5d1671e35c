"""Options of a proofreading run."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.execution.runner import IN_PROCESS
from connectomebench.proofreading.loop import LoopConfig


@dataclass(frozen=True)
class ProofreadConfig:
    """Options of a run.

    Attributes
    ----------
    rules
        When an edit is applied, and when the loop stops.
    segmentation
        Which one, where the configuration names several.
    box_nm
        Box to proofread: lower x, y, z and upper x, y, z, nm; None takes all.
    trusted
        Segments that may not be joined with each other.
    max_usd
        Most that the models may cost; None sets no limit.
    serve_url
        Where the output folder will be served, for links.
    allow_trained_here
        Use models that were trained on the place; the report says so.
    block_vx
        Edge of the blocks, voxels; see :func:`connectomebench.proofreading.blocks.make_grid`.
    scheduler
        Where work on blocks is done; see :func:`connectomebench.execution.open_runner.open_runner`.
    max_density
        Most ends, most contacts, and most places of merge errors, in a cube of 1 µm; None sets no limit.
    contacts
        Whether every two objects that touch are candidates for a merge too, and not only ends.
    validation_box_nm
        A box with truth, apart from ``box_nm``, on which confidence and thresholds are learnt; None multiplies the
        answers of the models and takes ``rules.min_confidence``.
    precision
        Share of right edits for which the thresholds are chosen there.
    ablation
        Where there is truth, also run with the oracle in place of one step at a time. It asks the models more.
    people_records, people_data
        Result records of people, and the dataset whose rows they rated: what they said of the same corrections is
        scored beside what the models say. See :func:`connectomebench.proofreading.people_records.read_rated_rows`.
    """

    rules: LoopConfig = field(default_factory=LoopConfig)
    segmentation: str | None = None
    box_nm: tuple[float, float, float, float, float, float] | None = None
    trusted: tuple[int, ...] = ()
    max_usd: float | None = None
    serve_url: str = "http://127.0.0.1:8000"
    allow_trained_here: bool = False
    block_vx: int | None = None
    scheduler: str = IN_PROCESS
    max_density: float | None = 100.0
    contacts: bool = False
    validation_box_nm: tuple[float, float, float, float, float, float] | None = None
    precision: float = 0.9
    ablation: bool = True
    people_records: Path | None = None
    people_data: str | None = None

    def __post_init__(self) -> None:
        if (self.people_records is None) != (self.people_data is None):
            raise ConnectomeBenchError("--people and --people-data belong together: records, and the rows they are of")
        if self.max_density is not None and not self.max_density > 0:
            raise ConnectomeBenchError(f"--max-density is {self.max_density}; it must be above 0")
        if not 0 < self.precision < 1:
            raise ConnectomeBenchError(f"--precision is {self.precision}; it must be above 0 and below 1")


DEFAULT_OPTIONS = ProofreadConfig()
