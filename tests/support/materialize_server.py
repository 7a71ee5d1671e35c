"""The materialisation service of CAVE beside the replayed graph: versions, table metadata, and tables as Arrow streams.

Answers have the form that caveclient 8 reads from a server of version 5.13 or later: a table is an Arrow IPC stream
(``data.arrow``) whose positions are three columns, and whose columns hold nulls. ``query`` takes what caveclient sends
(``select_columns``, ``limit``, ``offset``); joins and filters are refused, since nothing here asks for them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from replay_answers import TABLE as GRAPH
from replay_answers import Answer, Request, error_answer, json_answer
from replay_server import Faults, ReplayServer, replay_server

DATASTACK = "medulla"
VERSION = 7
_QUERY = re.compile(rf"/materialize/api/v3/datastack/{DATASTACK}/version/{VERSION}/table/([\w.]+)/query")
_METADATA = re.compile(rf"/materialize/api/v3/datastack/{DATASTACK}/version/{VERSION}/table/([\w.]+)/metadata")


@dataclass(frozen=True)
class Table:
    """A materialised table.

    Attributes
    ----------
    rows
        As the server sends them.
    voxel_nm
        Size of the voxels of its positions.
    reference
        Table that its ``target_id`` is about; None for none.
    cut_short
        The server says that it left rows out.
    """

    rows: pa.Table
    voxel_nm: tuple[float, float, float] = (10.0, 10.0, 10.0)
    reference: str | None = None
    cut_short: bool = False


def stream(rows: pa.Table) -> bytes:
    """Write a table as the server does."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()


def answer_of(tables: Mapping[str, Table], request: Request) -> Answer | None:
    """Answer a request to the service; None where it is to another one."""
    fixed = {
        "/materialize/api/versions": [2, 3],
        "/materialize/version": "5.13.0",
        f"/materialize/api/v3/datastack/{DATASTACK}/versions": [VERSION],
        f"/materialize/api/v2/datastack/{DATASTACK}/version/{VERSION}/tables": sorted(tables),
    }
    if request.path in fixed:
        return json_answer(fixed[request.path])
    if not request.path.startswith("/materialize/"):
        return None
    asked = _METADATA.fullmatch(request.path) or _QUERY.fullmatch(request.path)
    if asked is None or asked[1] not in tables:
        return error_answer(404, "table not found")
    table = tables[asked[1]]
    if request.path.endswith("/metadata"):
        return json_answer(_metadata(asked[1], table))
    told: dict[str, Any] = json.loads(request.body or b"{}")
    if request.method != "POST" or set(told) - {"select_columns", "limit", "offset", "desired_resolution"}:
        return error_answer(501, f"not part of this service: {request.method} {sorted(told)}")
    rows = table.rows.select(told["select_columns"]) if "select_columns" in told else table.rows
    rows = rows.slice(told.get("offset", 0), told.get("limit"))
    warning = f'201 - "Limited query to {rows.num_rows} rows"' if table.cut_short else None
    return Answer(200, "data.arrow", stream(rows), warning=warning)


def _metadata(name: str, table: Table) -> dict[str, Any]:
    x, y, z = table.voxel_nm
    return {
        "table_name": name,
        "reference_table": table.reference,
        "schema_type": "nucleus_detection",
        "annotation_table": name,
        "voxel_resolution_x": x,
        "voxel_resolution_y": y,
        "voxel_resolution_z": z,
        "valid": True,
        "notice_text": None,
    }


@contextmanager
def server_with_tables(
    fixture: Path, tables: Mapping[str, Table], faults: Faults | None = None, **settings: Any
) -> Iterator[ReplayServer]:
    """Serve the replayed graph with an info service and a materialisation service of these tables."""
    with replay_server(fixture, faults=faults, **settings) as server:
        answer = server.answer
        volume = {"name": "medulla_volume", "id": 1, "image_source": "precomputed://gs://nowhere"}
        told = {
            "aligned_volume": volume,
            "local_server": server.url,
            "segmentation_source": f"graphene://{server.url}/segmentation/table/{GRAPH}",
            "synapse_table": None,
            "viewer_site": None,
        }
        info = {
            f"/info/api/v2/datastack/full/{DATASTACK}": told,
            "/info/api/v2/aligned_volume/id/1": volume,
            "/info/api/v2/aligned_volume/medulla_volume": volume,
            "/info/version": "4.4.0",
        }

        def wider(request: Request) -> Answer:
            if request.path in info:
                return json_answer(info[request.path])
            return answer_of(tables, request) or answer(request)

        server.answer = wider
        yield server
