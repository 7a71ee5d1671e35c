"""Change a ChunkedGraph: merges and splits, each sent once and never repeated by itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import requests
from requests.adapters import HTTPAdapter

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.site import Point
from connectomebench.sources.cave.graph import Graph
from connectomebench.sources.cave.retries import BUSY, refused

T = TypeVar("T")
Seed = tuple[int, Point]
"""A supervoxel and a point in it (x, y, z), nm."""

_TIMEOUT_S = (30.0, 600.0)  # the server cuts and writes before it answers
_TOO_MANY = 429


class NotAccepted(Exception):
    """The server answered that it did not make an edit; the message gives its reason in one line."""


class NotAnswered(Exception):
    """Nobody knows yet whether the server made an edit: the connection or the answer was lost."""


class Busy(Exception):
    """The server did not look at an edit, since it is asked too much."""


@dataclass(frozen=True)
class Made:
    """An edit that the server made: id of the operation, and the roots that it gave."""

    operation_id: int
    roots: tuple[int, ...]


class GraphEdits:
    """Sends edits through caveclient, without its retries.

    Parameters
    ----------
    graph
        The open graph.
    login
        Server that hands out tokens, for messages.
    """

    def __init__(self, graph: Graph, login: str) -> None:
        self._client = graph.client
        base = f"{self._client.server_address.rstrip('/')}/segmentation/api/"
        # the longest prefix of an address chooses the adapter; previews of cuts are asked with retries as before
        for version in ("v1", "1.0"):
            for name in ("merge", "split"):
                address = f"{base}{version}/table/{self._client.table_name}/{name}"
                self._client.session.mount(address, _Once(login))

    def merge(self, source: Seed, sink: Seed) -> Made:
        """Unite the objects of two supervoxels.

        Raises
        ------
        NotAccepted, NotAnswered, Busy
            See there.
        ConnectomeBenchError
            If the token is refused.
        """
        seeds = (source, sink)

        def send() -> Made:
            answer = self._client.do_merge([s for s, _ in seeds], [p for _, p in seeds], resolution=(1, 1, 1))
            return Made(int(answer["operation_id"]), tuple(int(root) for root in answer["new_root_ids"]))

        return _once(send)

    def split(self, sources: Sequence[Seed], sinks: Sequence[Seed]) -> Made:
        """Cut an object between supervoxels by the server's minimum cut; see :meth:`merge` for what is raised."""

        def send() -> Made:
            operation, roots = self._client.execute_split(
                [p for _, p in sources], [p for _, p in sinks], 0, [s for s, _ in sources], [s for s, _ in sinks]
            )
            return Made(int(operation), tuple(int(root) for root in roots))

        return _once(send)


class _Once(HTTPAdapter):
    """Sends a request once, with time limits, and reads the whole answer."""

    def __init__(self, login: str) -> None:
        super().__init__(max_retries=0)
        self._login = login

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs |= {"stream": False, "timeout": _TIMEOUT_S}
        response = super().send(request, *args, **kwargs)
        _ = response.content
        if response.status_code in (401, 403):
            raise refused(str(request.url), response.status_code, self._login)
        return response


def _once(send: Callable[[], Made]) -> Made:
    from caveclient.base import AuthException

    try:
        return send()
    except requests.HTTPError as error:
        response = error.response
        if response is None or response.status_code in BUSY - {_TOO_MANY}:
            raise NotAnswered(
                f"the server answered {'nothing' if response is None else response.status_code}"
            ) from None
        if response.status_code == _TOO_MANY:
            raise Busy("the server answered 429") from None
        raise NotAccepted(f"{response.status_code}: {_reason(response)}") from None
    except AuthException:
        raise ConnectomeBenchError("the CAVE server asks for a login; see connectomebench doctor") from None
    except requests.RequestException as error:
        raise NotAnswered(type(error).__name__) from None
    except (json.JSONDecodeError, AttributeError, KeyError, IndexError, TypeError, ValueError):
        raise NotAnswered("an answer that cannot be read") from None


def _reason(response: requests.Response) -> str:
    """Return the message of an error in one line, without the code that some begin with."""
    try:
        text = str(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        text = ""
    text = " ".join(text.removeprefix(f"[{response.status_code}]:").split())
    return text[:200] or "no reason given"
