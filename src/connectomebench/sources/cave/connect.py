"""Connect to a CAVE dataset, and find the roots that count as proofread."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import requests
from numpy.typing import NDArray

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.ids import exact_column
from connectomebench.core.species import Species, get_species
from connectomebench.sources.cave.cave_config import CaveConfig, RootsConfig
from connectomebench.sources.cave.graph import Graph, utc
from connectomebench.sources.cave.retries import (
    RUN_AGAIN,
    RetryAdapter,
    ServerAway,
    refused,
    unusable_token,
    with_retries,
)
from connectomebench.sources.cave.root_files import read_root_ids
from connectomebench.sources.cave.tokens import read_token

_SUPERVOXEL = "pt_supervoxel_id"


@dataclass(frozen=True)
class Connection:
    """An open connection to a dataset.

    Attributes
    ----------
    name
        Datastack, or the graph's table where no datastack is used.
    login
        Server that hands out tokens.
    graph
        The ChunkedGraph.
    segmentation, image
        CloudVolume paths; ``image`` is None where there is no image data.
    materialize
        caveclient's materialisation service, None where only the graph is used.
    token
        Token that caveclient stores for the server, for cloud-volume; never shown.
    """

    name: str
    login: str
    graph: Graph
    segmentation: str
    image: str | None
    materialize: Any
    token: str | None = field(repr=False)


def connect(config: CaveConfig, species: Species, stated: str = "source.cave.server") -> Connection:
    """Connect to the dataset of a species, or to the configured one.

    The token is the one that caveclient stores for the server; the common one is for known servers alone. No token and
    no address is written to disk.

    Parameters
    ----------
    config
        Server, and datastack or graph.
    species
        Gives what the configuration leaves out.
    stated
        What the address of the server comes from, for messages: a setting or an option.

    Raises
    ------
    ConnectomeBenchError
        If the species has no CAVE dataset, the server cannot be reached or refuses the token, or the stored token is
        none.
    """
    server = config.server or species.server
    if server is None:
        raise ConnectomeBenchError(
            f"{species.name} has no CAVE server; use the source `volumes`, or name one with source.cave.server"
        )
    # it warns of every attempt of a client's constructor, and of cloud-volume's threads sharing a small connection pool
    logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)
    token = read_token(server)
    if token.problem and not token.is_absent:
        raise unusable_token(server, f"{token.path}: {token.problem}")
    adapter = RetryAdapter(config.requests, server)
    if config.graph_table is not None:
        return _graph_alone(config, server, adapter, stated)
    datastack = config.datastack or species.datastack
    if datastack is None:
        raise ConnectomeBenchError(f"{species.name} has no datastack; name one with source.cave.datastack")
    from caveclient import CAVEclient

    def open_client() -> Any:
        client: Any = CAVEclient(datastack, server_address=server, write_server_cache=False, **_login(server))
        for service in (client.info, client.chunkedgraph, client.materialize):
            _mount_retries(service, adapter)
        return client

    client = _reached(server, open_client, config, stated)
    segmentation, image = config.segmentation, config.image
    if datastack == species.datastack:
        segmentation, image = segmentation or species.segmentation, image or species.em
    else:
        segmentation, image = segmentation or client.info.segmentation_source(), image or client.info.image_source()
    return Connection(
        datastack,
        server,
        Graph(client.chunkedgraph, config.requests),
        segmentation,
        None if image == "none" else image,
        client.materialize,
        client.auth.token,
    )


def connect_graph(server: str, datastack: str | None, table: str | None, stated: str = "the address") -> Graph:
    """Connect to the graph of a datastack, or to a graph by its name; tokens are as for :func:`connect`.

    Parameters
    ----------
    server
        Address.
    datastack, table
        One of both.
    stated
        What the address comes from, for messages.

    Raises
    ------
    ConnectomeBenchError
        If the server cannot be reached or refuses the token, or the stored token is none.
    """
    config = CaveConfig(server=server, datastack=datastack, graph_table=table, image="none")
    return connect(config, replace(get_species("mouse"), name=server, server=None, datastack=None), stated).graph


def _graph_alone(config: CaveConfig, server: str, adapter: RetryAdapter, stated: str) -> Connection:
    from caveclient.auth import AuthClient
    from caveclient.chunkedgraph import ChunkedGraphClient

    if config.image is None:
        raise ConnectomeBenchError("source.cave.graph_table needs source.cave.image: a CloudVolume path, or none")

    found = _login(server)
    auth = AuthClient(server_address=server, token=found.get("auth_token"), token_key=found.get("auth_token_key"))

    def open_client() -> Any:
        client = ChunkedGraphClient(server_address=server, table_name=config.graph_table, auth_client=auth)
        _mount_retries(client, adapter)
        return client

    graph = Graph(_reached(server, open_client, config, stated), config.requests)
    image = None if config.image == "none" else config.image
    return Connection(
        str(config.graph_table),
        server,
        graph,
        config.segmentation or graph.segmentation_path(),
        image,
        None,
        auth.token,
    )


def _login(server: str) -> dict[str, Any]:
    """Return the token of a server as options of `CAVEclient`, which otherwise gives the common one to any server."""
    token = read_token(server).value
    # without a token it would read its files; no file has this key
    return {"auth_token": token} if token else {"auth_token_key": "connectomebench: no token for this server"}


def _mount_retries(service: Any, adapter: RetryAdapter) -> None:
    for scheme in ("http://", "https://"):
        service.session.mount(scheme, adapter)


def _reached(server: str, open_client: Any, config: CaveConfig, stated: str) -> Any:
    """Build a client with retries: its constructor asks the server before our adapter is mounted."""
    from caveclient.base import AuthException

    try:
        return with_retries(f"a connection to {server}", open_client, config.requests, server)
    except SiteUnavailable as error:
        if isinstance(error.__cause__, AuthException):
            raise refused(server, None, server) from None
        raise ConnectomeBenchError(f"{error}; check the network and {stated}, or run connectomebench doctor") from None


@dataclass(frozen=True)
class ProofreadRoots:
    """Roots that count as proofread.

    Attributes
    ----------
    ids
        uint64, sorted.
    followed
        Id as given -> the root that it was followed to, for ids that are out of date.
    failed
        Id as given -> why it is left out.
    """

    ids: NDArray[np.uint64]
    followed: dict[int, int]
    failed: dict[int, str]


def proofread_roots(
    connection: Connection, config: RootsConfig, species: Species, until: datetime, base: Path
) -> ProofreadRoots:
    """Find the proofread roots that are current at a time.

    Parameters
    ----------
    connection
        The dataset.
    config
        Which roots.
    species
        Gives the table of proofread cells.
    until
        Time, UTC. Roots that were replaced before it are followed to the descendant that covers their place.
    base
        Folder that ``config.file`` is relative to.

    Raises
    ------
    ConnectomeBenchError
        If none is found, or a table or file cannot be read.
    """
    table = config.table or species.proofread_table
    followed: dict[int, int] = {}
    failed: dict[int, str] = {}
    graph = connection.graph
    try:
        if config.ids is not None or config.file is not None:
            given = config.ids if config.ids is not None else read_root_ids(base / str(config.file))
            roots, followed, failed = _followed(graph, given, until)
        elif config.changed_since is not None:
            roots = graph.changed_roots(utc(config.changed_since, "source.cave.roots.changed_since"), until)
        elif table is None:
            raise ConnectomeBenchError(
                f"{species.name} has no table of proofread cells; set source.cave.roots.changed_since (or ids, or file)"
            )
        elif connection.materialize is None:
            raise ConnectomeBenchError(
                "source.cave.roots.table needs the datastack, not graph_table alone; set ids, file or changed_since"
            )
        else:
            roots = _in_table(connection, table, until)
    except SiteUnavailable as error:
        raise ConnectomeBenchError(f"the proofread roots cannot be read: {error}; {RUN_AGAIN}") from None
    roots = np.unique(roots[roots != 0])
    if not len(roots):
        raise ConnectomeBenchError("no proofread root found; check source.cave.roots and source.cave.until")
    return ProofreadRoots(roots[: config.most], followed, failed)


def _in_table(connection: Connection, table: str, until: datetime) -> NDArray[np.uint64]:
    """Look up the roots of the supervoxels of a table, because its own root ids may be out of date."""
    try:
        supervoxels = _supervoxels(connection.materialize, table)
    except ValueError as error:
        raise ConnectomeBenchError(
            f"table {table} of {connection.name}, column {_SUPERVOXEL}: {error}; name another table with "
            "source.cave.roots.table, or give roots.ids or roots.file"
        ) from None
    except Exception as error:  # caveclient raises HTTP errors, and others for a table that does not exist
        raise ConnectomeBenchError(
            f"table {table} of {connection.name} cannot be read ({type(error).__name__}); name another with "
            "source.cave.roots.table"
        ) from None
    return connection.graph.roots(supervoxels, until)


def _supervoxels(materialize: Any, table: str) -> NDArray[np.uint64]:
    """Read the supervoxels of a table exactly; rows without one are left out.

    caveclient gives a frame of pandas, which turns integers with a null among them into floating-point numbers. The
    answer of the server itself (an Arrow stream) still holds all digits, so such a column is taken from there.
    """
    column = materialize.query_table(table, select_columns=[_SUPERVOXEL])[_SUPERVOXEL]
    if isinstance(column.dtype, np.dtype) and column.dtype.kind == "f" and column.notna().any():
        answers: list[requests.Response] = []
        hooks = materialize.session.hooks["response"]
        keep = lambda response, *args, **kwargs: answers.append(response)  # noqa: E731
        hooks.append(keep)
        try:
            column = materialize.query_table(table, select_columns=[_SUPERVOXEL])[_SUPERVOXEL]
        finally:
            hooks.remove(keep)
        column = next((exact for one in answers if (exact := _arrow_column(one)) is not None), column)
    return exact_column(column)


def _arrow_column(response: requests.Response) -> list[int | float | None] | None:
    """Return the supervoxels of an answer that is an Arrow stream; None for any other answer."""
    import pyarrow as pa

    if response.headers.get("Content-Type") != "data.arrow":
        return None
    with pa.ipc.open_stream(response.content) as stream:
        table = stream.read_all()
    return table[_SUPERVOXEL].to_pylist() if _SUPERVOXEL in table.column_names else None


def _followed(
    graph: Graph, given: Iterable[int], until: datetime
) -> tuple[NDArray[np.uint64], dict[int, int], dict[int, str]]:
    """Return the current roots, those that stand for others (id as given -> root), and ids left out with the reason."""
    ids = np.unique(np.asarray(list(given), np.uint64))
    current = graph.are_latest(ids, until)
    roots, replaced, failed = ids[current].tolist(), {}, {}
    for stale in ids[~current].tolist():
        try:
            latest = graph.latest_of(stale, until)
        except ServerAway:
            raise
        except SiteUnavailable as error:
            failed[stale] = str(error)
            continue
        if latest:
            roots.append(latest)
            replaced[stale] = latest
        else:
            failed[stale] = "the server knows no such root"
    return np.asarray(roots, np.uint64), replaced, failed
