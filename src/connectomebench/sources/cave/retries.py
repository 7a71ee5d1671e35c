"""Retries: the one module that handles network failures."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception, retry_if_exception_type

from connectomebench.core.errors import ConnectomeBenchError, SiteUnavailable
from connectomebench.core.retry_policy import RetryPolicy, TransientError, failure_of, retry_after_s
from connectomebench.sources.cave.cave_config import RequestConfig
from connectomebench.sources.cave.tokens import how_to_log_in

T = TypeVar("T")

_log = logging.getLogger(__name__)

RUN_AGAIN = (
    "run the same command again to continue from here, or let it wait longer (source.cave.requests: attempts, wait_s, "
    "longest_wait_s)"
)
"""What to do where a server gave no answers."""

_IF_500 = 4  # the ChunkedGraph also answers 500 for unknown ids, and then every time
BUSY = frozenset({429, 502, 503, 504})
"""Answers of a server that may be able to answer later."""
_LONG_WAIT_S = 5.0
_DROPPED = (
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
    requests.exceptions.ContentDecodingError,
)


class ServerAway(SiteUnavailable):
    """The server gives no answers at present; to ask for less, or for something else, does not help.

    Attributes
    ----------
    busy
        It answers, that it is busy; smaller questions may help.
    """

    def __init__(self, reason: str, busy: bool = False) -> None:
        super().__init__(reason)
        self.busy = busy

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.busy)


def with_retries(what: str, read: Callable[[], T], rules: RequestConfig, login: str) -> T:
    """Read from cloud storage, with the same retries as :class:`RetryAdapter`.

    Parameters
    ----------
    what
        What is read, for the reason of a failure.
    read
        Asks cloud-volume, in a thread of its own. Its storage back ends each raise their own exceptions for a lost
        connection, a busy server and a body cut short, so all of them are tried again, but for a refused token. Its
        requests know no time limit, so a read that takes longer than ``rules.read_s`` counts as lost.
    rules, login
        As for :class:`RetryAdapter`.

    Raises
    ------
    SiteUnavailable
        If it fails after all attempts.
    ConnectomeBenchError
        If the token is refused.
    """
    from cloudvolume.exceptions import AuthenticationError

    def once() -> T:
        try:
            return _within(rules.read_s, read)
        except AuthenticationError:  # cloud-volume did not ask: it only takes tokens that look like one
            raise unusable_token(login, "it is neither hexadecimal nor base64") from None
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code in (401, 403):
                raise refused(str(error.response.url), error.response.status_code, login) from None
            raise

    policy = _policy(rules)
    attempts = Retrying(
        retry=retry_if_exception(lambda e: isinstance(e, Exception) and not isinstance(e, ConnectomeBenchError)),
        stop=policy.stop,
        wait=policy.wait,
        reraise=True,
    )
    try:
        return attempts(once)
    except ConnectomeBenchError:
        raise
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise SiteUnavailable(f"{what}: the server answered {status}") from None
    except Exception as error:
        raise SiteUnavailable(f"{what}: {type(error).__name__}") from error


def _within(seconds: float, read: Callable[[], T]) -> T:
    """Stop waiting for a read after a time limit; its thread ends with the process at the latest."""
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(read())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failed:
        raise failed[0]
    if not done:
        raise TimeoutError(f"no answer within {seconds:g} s")
    return done[0]


def _policy(rules: RequestConfig) -> RetryPolicy:
    return RetryPolicy(rules.attempts, rules.wait_s, rules.longest_wait_s, longest_asked_s=rules.longest_wait_s)


class _BusyServer(TransientError):
    """An answer that may succeed when repeated."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(f"the server answered {response.status_code}", retry_after_s(response.headers))
        self.response = response


class RetryAdapter(HTTPAdapter):
    """Sends requests with a time limit, and retries with growing random waits.

    What is sent through it only reads, so each request may be repeated; edits take another way (``graph_edits``). A
    body shorter than announced counts as dropped.
    A refused token ends the build with a message that names the server; the token is in no message.

    Parameters
    ----------
    rules
        Retries and time limits.
    login
        Server that hands out tokens, for messages.
    """

    def __init__(self, rules: RequestConfig, login: str) -> None:
        super().__init__(pool_maxsize=16)
        self._rules = rules
        self._policy = _policy(rules)
        self._login = login

    def send(  # noqa: D102
        self, request: requests.PreparedRequest, *args: Any, timeout: Any = None, **kwargs: Any
    ) -> requests.Response:
        kwargs |= {"stream": False, "timeout": timeout or self._rules.timeout_s}
        attempts = Retrying(
            retry=retry_if_exception_type((_BusyServer, *_DROPPED)),
            stop=self._stop,
            wait=self._policy.wait,
            before_sleep=_log_failure,
            retry_error_callback=_give_up,
        )
        return attempts(self._send_once, request, args, kwargs)

    def _send_once(
        self, request: requests.PreparedRequest, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> requests.Response:
        response = super().send(request, *args, **kwargs)
        _ = response.content  # read it here, so that a body cut short is noticed and tried again
        if response.status_code in (401, 403):
            raise refused(str(request.url), response.status_code, self._login)
        if response.status_code in BUSY or response.status_code == 500:
            raise _BusyServer(response)
        return response

    def _stop(self, state: RetryCallState) -> bool:
        failed = failure_of(state)
        unknown = isinstance(failed, _BusyServer) and failed.response.status_code == 500
        return self._policy.stop(state) or (unknown and state.attempt_number >= _IF_500)


def _log_failure(state: RetryCallState) -> None:
    failed = failure_of(state)
    reason = failed.reason if isinstance(failed, TransientError) else f"no answer ({type(failed).__name__})"
    wait_s = state.next_action.sleep if state.next_action else 0.0
    # a wait that people notice is explained
    level = logging.WARNING if wait_s >= _LONG_WAIT_S else logging.DEBUG
    _log.log(level, "attempt %d failed: %s; the next one in %.0f s", state.attempt_number, reason, wait_s)


def _give_up(state: RetryCallState) -> requests.Response:
    """Return the last answer, as caveclient expects, or raise the last failure."""
    failed = failure_of(state)
    if isinstance(failed, _BusyServer):
        return failed.response
    raise failed


def unusable_token(login: str, problem: str) -> ConnectomeBenchError:
    """Make the error for a stored token that no server was asked with, since it cannot be one."""
    return ConnectomeBenchError(f"the token for {login} cannot be used: {problem}; {how_to_log_in(login)}")


def refused(url: str, status: int | None, login: str) -> ConnectomeBenchError:
    """Make the error for a token that is not accepted (401) or has no permission (403), with how to get one.

    Parameters
    ----------
    url
        Requested address; only its server appears in the message.
    status
        401 or 403; None where the server leads to a page to log in.
    login
        Server that hands out tokens.
    """
    parts = urlsplit(url)
    why = "the token has no permission for this dataset" if status == 403 else "there is no valid token for it"
    answered = "asks for a login" if status is None else f"answered {status}"
    return ConnectomeBenchError(
        f'{parts.scheme}://{parts.netloc} {answered}: {why}. Get one with python -c "from caveclient import '
        f"CAVEclient; CAVEclient.setup_token('{login}')\", accept the terms of the dataset there, and run again"
    )
