"""Check that the servers of a species answer and accept the token."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.species import Species
from connectomebench.doctor.checks import Check, CheckResult, run_checks
from connectomebench.doctor.targets import Target, species_target
from connectomebench.sources.cave.tokens import Token, how_to_log_in, is_known, read_token, same_server

_TIMEOUT_S = 5.0
_ANSWERS = "answers"
# storage that is asked with credentials of its own
_UNASKED = ("s3://", "precomputed://s3://", "n5://", "zarr://")


def access(species: Species, server: str | None = None, offline: bool = False) -> list[CheckResult]:
    """Check the token and the servers of a species; see :func:`connectomebench.doctor.diagnose`."""
    return access_of(species_target(species, server), offline)


def access_of(target: Target, offline: bool = False) -> list[CheckResult]:
    """Check the token, the servers and the files that a build reads; see :func:`connectomebench.doctor.diagnose`."""
    token = None if target.login is None else read_token(target.login)
    checks: list[tuple[str, Check]] = []
    for name, ask in _network(target, token):
        checks.append((name, partial(_not_asked, name) if offline else ask))
    checks += [(name, partial(_file, name, path)) for name, path in target.files.items()]
    found = run_checks(checks)
    findings = [*_token(token, target.login, found, offline), *found]
    if token is None or not token.value:
        return findings
    return [
        replace(f, found=f.found.replace(token.value, "[token]"), todo=f.todo.replace(token.value, "[token]"))
        for f in findings
    ]


def _token(token: Token | None, login: str | None, found: list[CheckResult], offline: bool) -> list[CheckResult]:
    """Report on the token, knowing what the servers answered: one that is not there may not be needed."""
    if token is None or login is None:
        return [CheckResult("token", "ok", "none is needed")]
    asked = [f for f in found if f.name in ("server", "labels")]
    if token.is_no_file and not offline and asked and all(f.found.endswith(_ANSWERS) for f in asked):
        return [CheckResult("token", "ok", f"none is stored, and {login} answers without one")]
    if token.problem:
        return [CheckResult("token", "missing", f"{token.path}: {token.problem}", how_to_log_in(login))]
    return [CheckResult("token", "ok", f"in {token.path}")]


def _file(name: str, path: Path) -> list[CheckResult]:
    """Check that a file or folder is there; a build checks what is in it."""
    if path.exists():
        return [CheckResult(name, "ok", f"{path} is there")]
    return [CheckResult(name, "missing", f"there is no {path}", "mend the path in the configuration")]


def _network(target: Target, token: Token | None) -> list[tuple[str, Check]]:
    checks: list[tuple[str, Check]] = []
    login = target.login
    if login is not None and token is not None:
        checks.append(("server", partial(_server, login, target.datastack, target.graph_table, token)))
    for name, path in target.paths.items():
        checks.append((name, partial(_volume, name, path, login, _token_of_volume(path, login, token))))
    return checks


def _token_of_volume(path: str, login: str | None, token: Token | None) -> Token | None:
    """Return the token of a volume as in a build: no server receives that of another."""
    if login is None or token is None or not path.startswith("graphene://"):
        return None
    if same_server(path, login) or (is_known(path) and is_known(login)):
        return token
    return read_token(path)


def _not_asked(name: str) -> list[CheckResult]:
    return [CheckResult(name, "warning", "not checked (--offline)")]


def _server(login: str, datastack: str | None, graph_table: str | None, token: Token) -> list[CheckResult]:
    """Request the datastack, as ``CAVEclient`` does; without one, only a ChunkedGraph."""
    graph_url = f"{login}/segmentation/api/version"
    if graph_table is not None:
        graph_url = f"{login}/segmentation/table/{graph_table}/info"
    url = f"{login}/info/api/v2/datastack/full/{datastack}" if datastack else graph_url
    answer = _ask("GET", url, token)
    if graph_table is not None or (answer != 404 if datastack else answer != 200):
        return [_judge("server", url, answer, login, token)]
    if datastack:
        # a server may have a graph and no info service; and one that refuses the token may hide what it has
        of_graph = _ask("GET", graph_url, token)
        if _is_refusal(of_graph):
            return [_judge("server", graph_url, of_graph, login, token)]
        if of_graph != 200:
            return [_judge("server", url, answer, login, token)]
    found = f"{login} has a ChunkedGraph, but no datastack {datastack or 'is known'}"
    todo = "name the graph in the configuration: source.cave.graph_table, segmentation and image"
    return [CheckResult("server", "warning", found, todo)]


def _is_refusal(answer: int | str) -> bool:
    """Return whether a server asks for a token: by a status, or by leading to a page to log in."""
    return isinstance(answer, int) and (answer in (401, 403) or 300 <= answer < 400)


def _volume(name: str, path: str, login: str | None, token: Token | None) -> list[CheckResult]:
    if path.startswith(_UNASKED):
        return [CheckResult(name, "warning", f"{path} is not checked; the build opens it through cloud-volume")]
    url = info_url(path)
    answer = _ask("HEAD" if token is None else "GET", url, token)
    return [_judge(name, url, answer, login, token)]


def info_url(path: str) -> str:
    """Return the URL of the info file of a CloudVolume path, as requested by cloud-volume 12.15.

    Raises
    ------
    ConnectomeBenchError
        If the path is neither on an HTTP server nor in a Google bucket.
    """
    address = path.removeprefix("graphene://").removeprefix("precomputed://")
    if address.startswith("gs://"):
        address = address.replace("gs://", "https://storage.googleapis.com/", 1)
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https"):
        raise ConnectomeBenchError(f"{path} is neither on a web server nor in a Google bucket")
    if path.startswith("graphene://"):
        words = parts.path.strip("/").split("/")
        return f"{parts.scheme}://{parts.netloc}/{words[0]}/table/{words[-1]}/info"
    return f"{address.rstrip('/')}/info"


def _ask(method: str, url: str, token: Token | None) -> int | str:
    """Return the HTTP status, or why there is none. The body is not read."""
    import requests

    headers = {"Authorization": f"Bearer {token.value}"} if token is not None and token.value else {}
    try:
        # a CAVE server redirects requests without a valid token to a login page; a bucket may redirect to its region
        with requests.request(
            method, url, headers=headers, timeout=_TIMEOUT_S, allow_redirects=token is None, stream=True
        ) as response:
            return response.status_code
    except requests.Timeout:
        return f"no answer within {_TIMEOUT_S:g} s"
    except requests.RequestException as error:
        return _reason(error)


def _reason(error: BaseException) -> str:
    import socket

    import requests

    if isinstance(error, requests.exceptions.ProxyError):
        return "the proxy cannot be reached or refuses"
    if isinstance(error, requests.exceptions.SSLError):
        return "its certificate is not accepted"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "its name cannot be found (DNS)"
        if isinstance(cause, ConnectionRefusedError):
            return "the connection is refused"
        cause = cause.__cause__ or cause.__context__
    return f"the connection failed ({type(error).__name__})"


def _judge(name: str, url: str, answer: int | str, login: str | None, token: Token | None) -> CheckResult:
    parts = urlsplit(url)
    host = f"{parts.scheme}://{parts.netloc}"
    if isinstance(answer, str):
        todo = "check the network, the firewall and the variables HTTPS_PROXY and NO_PROXY"
        return CheckResult(name, "missing", f"{host}: {answer}", todo)
    if 200 <= answer < 300:
        return CheckResult(name, "ok", f"{host} {_ANSWERS}")
    if answer == 404:
        return CheckResult(name, "missing", f"{host} answers 404: there is no {parts.path}", "check the address")
    if token is None or login is None or not _is_refusal(answer):
        todo = "try again later" if answer == 429 or answer >= 500 else "check the address, and that it is public"
        return CheckResult(name, "missing", f"{host} answers {answer} for {parts.path}", todo)
    if not token.value:
        return CheckResult(name, "ok", f"{host} answers and requires the token")
    if answer == 403:
        todo = f"log in at {login}/sticky_auth/settings/tokens and accept the terms of the dataset"
        return CheckResult(name, "missing", f"{host} answers 403: the token has no permission for this dataset", todo)
    return CheckResult(
        name, "missing", f"{host} answers {answer}: the token in {token.path} is refused", how_to_log_in(login)
    )
