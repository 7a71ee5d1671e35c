"""Write and read what an attribution found: a JSON record, pictures of rows, and the sweep over the layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import atomic_path, write_json
from connectomebench.core.task_explanations import VIEW_NAMES
from connectomebench.evaluation.attribution import DEFAULT_METHOD, Method
from connectomebench.evaluation.attribution_pictures import METHOD_NAMES, row_figure, sweep_figure
from connectomebench.evaluation.attribution_run import FORMAT, Attribution, ExplainedRow

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RECORD = "attribution.json"
SWEEP = "sweep.png"


def write_attribution(found: Attribution, folder: Path, pictures: int = 6) -> list[Path]:
    """Write an attribution to a folder; the record comes last.

    Parameters
    ----------
    found
        From :func:`.attribution_run.explain_rows`.
    folder
        Output folder; created if needed. Pictures of an earlier attribution in it are removed.
    pictures
        Number of rows that are drawn, from the first on.

    Returns
    -------
    list of Path
        The record, the sweep and the pictures.
    """
    (folder / RECORD).unlink(missing_ok=True)
    for old in folder.glob("row-*.png"):
        old.unlink()
    names = []
    method, layer = shown_map(found.record)
    for number, own in enumerate(found.rows[:pictures]):
        names.append(f"row-{number:02d}.png")
        _save(_row(own, found.record["samples"][number], method, layer), folder / names[-1])
    if found.record["layers"]:
        _save(sweep_figure(found.record), folder / SWEEP)
    record = found.record | {"pictures": names, "shown": {"method": method, "layer": layer}}
    write_json(folder / RECORD, record)
    return [folder / RECORD, *([folder / SWEEP] if record["layers"] else []), *(folder / name for name in names)]


def read_attribution(folder: Path) -> dict[str, Any] | None:
    """Read the record in a folder; None if there is none.

    Raises
    ------
    ConnectomeBenchError
        If it is damaged or of a later format.
    """
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] > FORMAT:
            raise ConnectomeBenchError(f"{path} has the later format {record['format']}; upgrade connectomebench")
        for measure in record["measures"]:
            _ = measure["method"], measure["layer"], measure["measure"], measure["value"], measure["n_groups"]
        _ = record["model"], record["data"]["task"], record["data"]["species"], record["samples"], record["layers"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConnectomeBenchError(f"{path} is not an attribution ({error!r:.80}); explain the model again") from None
    return record


def shown_map(record: dict[str, Any]) -> tuple[Method, str]:
    """Return the method and layer that pictures show: the most faithful layer of LayerCAM, or AttnLRP without layers.

    Most faithful is the largest sum of what deletion and insertion gain. It is chosen on the rows that are measured,
    so its own numbers flatter it.
    """
    method: Method = DEFAULT_METHOD if record["layers"] else "attnlrp"
    sums: dict[str, float] = {}
    for one in record["measures"]:
        if one["method"] == method and one["measure"] in ("deletion", "insertion"):
            sums[one["layer"]] = sums.get(one["layer"], 0.0) + one["value"]
    if not sums:  # that method was not asked for
        first = record["measures"][0]
        return first["method"], first["layer"]
    return method, max(sums, key=sums.__getitem__)


def _row(own: ExplainedRow, sample: dict[str, Any], method: Method, layer: str) -> Figure:
    maps = {answer: one for (m, at, answer), one in own.explained.maps.items() if (m, at) == (method, layer)}
    title = (
        f"{sample['sample_id']}: truth {sample['answer']}, the model says {sample['predicted']}\n"
        f"{METHOD_NAMES[method]}, {layer}"
    )
    return row_figure(own.row, own.images, maps, title, VIEW_NAMES)


def _save(figure: Figure, path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        figure.savefig(stream, format="png", metadata={"Software": None})
