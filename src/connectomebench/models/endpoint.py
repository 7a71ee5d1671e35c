"""A model behind any OpenAI-compatible server: vLLM, transformers serve, llama.cpp, and what vendors host."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.retry_policy import RetryPolicy, TransientError, asked_wait_s, failure_of
from connectomebench.models.chat import Conversation, Reply, Sampling
from connectomebench.models.endpoint_errors import MAX_MESSAGE, Refusal, read_refusal
from connectomebench.models.endpoint_requests import Completion, Dialect, chat_messages, read_completion
from connectomebench.models.endpoint_settings import (
    EndpointSettings,
    key_headers,
    make_client,
    read_key,
    without_folders,
)
from connectomebench.models.prompt import PROMPT_VERSION

if TYPE_CHECKING:
    from openai import OpenAI

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 60.0
# a server that asks for more is asked another day
_LONGEST_ASKED_S = 120.0
_GREETING = ({"role": "user", "content": [{"type": "text", "text": "Reply with the word ok."}]},)
# reasoning models may write more than a few tokens before they say anything at all
_GREETING_TOKENS = (16, 1024)


class Endpoint:
    """A model behind a server, a :class:`connectomebench.models.chat.ChatModel`; :func:`open_endpoint` makes one.

    It may be called from several threads.

    Attributes
    ----------
    name
        Of the model, without the folders of the server's machine.
    revision
        Model, server and a hash of all that is known of the two. The weights of a hosted model may change without it.
    batch_size
        1: a call is a request, and several threads may call.
    takes_temperature
        False where the server draws replies as its maker set it, whatever is asked for.
    """

    batch_size = 1

    def __init__(self, settings: EndpointSettings, client: OpenAI, key: str | None) -> None:
        self._settings = settings
        self._client = client
        self._key = key
        self._lock = threading.Lock()
        self._dialect = Dialect()
        self._told: set[str] = set()
        self._model: str | None = None
        self._fingerprint: str | None = None
        self.name = without_folders(settings.model)
        self.revision = ""

    def __repr__(self) -> str:
        """Name model and server, and nothing that is secret."""
        return f"Endpoint({self.name!r} at {self._settings.host})"

    @property
    def takes_temperature(self) -> bool:  # noqa: D102
        return "temperature" not in self._dialect.left_out

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
        """Reply to every conversation, one request after the other.

        Parameters
        ----------
        conversations
            The ``k``-th draw of the same object is asked for with its seed plus ``k``. Whether a server heeds a seed is
            its own affair.
        sampling
            Temperature and length, as far as the server takes them.

        Returns
        -------
        list of Reply
            Words that were cut off or withheld are kept as far as there are any; the row has no answer then.

        Raises
        ------
        ConnectomeBenchError
            If the server still fails after all retries, or refuses what it is asked.
        """
        asked: Counter[int] = Counter()
        replies = []
        for conversation in conversations:
            draw = asked[id(conversation)]
            asked[id(conversation)] += 1
            completion = self._ask(conversation, sampling, conversation.seed + draw)
            replies.append(Reply(completion.text, completion.prompt_tokens, completion.tokens, self._cost(completion)))
        return replies

    def greet(self) -> None:
        """Ask one short question, to learn what the server takes and says of itself, and set the revision."""
        said = self._listed()
        completion = Completion("", "")
        for length in _GREETING_TOKENS:
            completion = self._ask(Conversation(_GREETING, ()), Sampling(0.0, length), 0, greeting=True)
            if completion.model is not None:
                break
        self._model, self._fingerprint = completion.model, completion.fingerprint
        known = [entry for entry in said if entry.get("id") == self._settings.model]
        behind = {
            key: without_folders(str(entry[key]))
            for entry in known[:1]
            for key in ("root", "parent", "owned_by", "max_model_len")
            if entry.get(key) is not None
        }
        model = without_folders(completion.model or self._settings.model)
        extra = dict(self._settings.extra_body)
        key = content_key(self.name, model, self._settings.host, behind, extra, self.takes_temperature, PROMPT_VERSION)
        self.revision = f"{model}@{self._settings.host}+{key[:8]}"

    def _ask(self, conversation: Conversation, sampling: Sampling, seed: int, *, greeting: bool = False) -> Completion:
        """Ask until there is an answer."""
        answer = self._retrying()(self._answer, chat_messages(conversation), sampling, seed)
        if not greeting:
            self._notice(answer, sampling)
        return answer

    def _answer(self, messages: list[dict[str, Any]], sampling: Sampling, seed: int) -> Completion:
        """Ask once; in other words where the server does not take these."""
        while True:
            dialect = self._dialect
            answer = self._request(messages, dialect.parameters(sampling, seed))
            if isinstance(answer, Completion):
                return answer
            if answer.transient:
                raise TransientError(self._quote(answer), answer.wait_s)
            if answer.blocked or answer.cut:
                return Completion("", "content_filter" if answer.blocked else "length")
            if not self._learn(dialect, answer):
                raise self._refused(answer)

    def _request(self, messages: list[dict[str, Any]], parameters: dict[str, Any]) -> Completion | Refusal:
        """Send one request."""
        import openai

        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            raw = create(
                model=self._settings.model,
                messages=messages,
                extra_headers=key_headers(self._key),
                extra_body=dict(self._settings.extra_body) or None,
                **parameters,
            )
            return read_completion(raw.text)
        except openai.APITimeoutError:
            raise TransientError(f"no answer for {self._settings.timeout_s:g} s") from None
        except openai.APIConnectionError:
            raise TransientError("no connection, or one that broke off") from None
        except openai.APIStatusError as error:
            return read_refusal(error.status_code, error.response.text, error.response.headers)

    def _retrying(self) -> Retrying:
        policy = RetryPolicy(
            self._settings.retries + 1, _FIRST_PAUSE_S, _LONGEST_PAUSE_S, _LONGEST_ASKED_S, least_share=0.75
        )
        return Retrying(
            retry=retry_if_exception_type(TransientError),
            stop=lambda state: policy.stop(state) or _asks_too_long(state),
            wait=policy.wait,
            before_sleep=self._announce,
            retry_error_callback=self._give_up,
        )

    def _announce(self, state: RetryCallState) -> None:
        """Log that the same is asked again, and when."""
        pause_s = state.next_action.sleep if state.next_action else 0.0
        _log.info(
            "%s: %s; asking again in %.1f s (%d of %d)",
            self._where,
            failure_of(state),
            pause_s,
            state.attempt_number,
            self._settings.retries,
        )

    def _give_up(self, state: RetryCallState) -> NoReturn:
        reason: object = failure_of(state)
        reason = (
            f"{reason} ({state.attempt_number} times)"
            if state.attempt_number > self._settings.retries
            else f"{reason}; it asks to wait {asked_wait_s(state):.0f} s"
        )
        raise ConnectomeBenchError(
            f"{self._where}: {reason}; run the same command again later: it goes on where it stopped"
        )

    def _learn(self, dialect: Dialect, refusal: Refusal) -> bool:
        """Tell whether it makes sense to ask in other words, which all later requests use too."""
        with self._lock:
            if self._dialect != dialect:
                return True  # another thread has learnt meanwhile
            learnt = dialect.learn(refusal)
            if learnt is None:
                return False
            self._dialect = learnt
        for name in sorted(learnt.left_out - dialect.left_out):
            # the same row may get another answer then, however greedy a reply was asked for
            own = ", and draws its replies as its maker set it" if name == "temperature" else ""
            _log.warning("%s takes no %s%s", self._where, name, own)
        if learnt.length != dialect.length:
            _log.info("%s takes %s in place of %s", self._where, learnt.length, dialect.length)
        return True

    def _notice(self, completion: Completion, sampling: Sampling) -> None:
        """Tell once what a user should know about replies; stop where another model answers than at first."""
        if completion.model is not None and self._model is not None and completion.model != self._model:
            raise ConnectomeBenchError(
                f"{self._where} was {without_folders(self._model)} and is now {without_folders(completion.model)}; "
                "answers of two models do not belong in one record: ask anew in another folder (--out)"
            )
        if completion.fingerprint != self._fingerprint:
            self._tell_once(f"{self._where} changed the fingerprint of its system while it was asked")
        if completion.finish == "length":
            self._tell_once(
                f"{self._where}: a reply was cut off after {sampling.max_new_tokens} tokens (reasoning counts); "
                "it counts as it stands; --max-new-tokens allows more"
            )
        if completion.finish == "content_filter":
            self._tell_once(f"{self._where}: a reply was withheld by a filter of its content, and counts as wrong")

    def _tell_once(self, message: str) -> None:
        with self._lock:
            told, self._told = message in self._told, self._told | {message}
        if not told:
            _log.warning(message)

    def _cost(self, completion: Completion) -> float | None:
        settings = self._settings
        if completion.cost_usd is not None:
            return completion.cost_usd
        if settings.usd_per_million_prompt is None or settings.usd_per_million_reply is None:
            return None
        if completion.prompt_tokens is None or completion.tokens is None:
            return None
        read = completion.prompt_tokens * settings.usd_per_million_prompt
        return (read + completion.tokens * settings.usd_per_million_reply) / 1e6

    def _listed(self) -> list[dict[str, Any]]:
        """Return what the server says of its models; nothing where it has no list.

        Raises
        ------
        ConnectomeBenchError
            If the server cannot be reached.
        """
        import openai

        try:
            told: Any = self._client.models.with_raw_response.list(
                extra_headers=key_headers(self._key)
            ).http_response.json()
        except openai.APITimeoutError:
            return []  # it is there, and may be loading the model
        except openai.APIConnectionError:
            raise ConnectomeBenchError(f"{self._where} cannot be reached; is the server running?") from None
        except (openai.APIStatusError, ValueError, RecursionError):
            return []
        entries = told.get("data") if isinstance(told, dict) else None
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def _refused(self, refusal: Refusal) -> ConnectomeBenchError:
        """Say in one line what the user can do about a refusal."""
        if refusal.status in (401, 403):
            # what the server says here may hold a part of the key
            variable = self._settings.key_variable
            if self._key is None:
                return ConnectomeBenchError(f"{self._where} asks for a key; put it into {variable} (--key-variable)")
            return ConnectomeBenchError(f"{self._where} refuses the key in {variable} ({refusal.status}); mend it")
        if refusal.status == 404:
            names = [str(entry.get("id"))[:MAX_MESSAGE] for entry in self._listed()]
            known = (
                f"it serves {', '.join(names[:20])}" if names else "check the name, and that the address ends in /v1"
            )
            return ConnectomeBenchError(f"{self._where} is not there ({self._quote(refusal)}); {known}")
        return ConnectomeBenchError(f"{self._where} refuses the request: {self._quote(refusal)}")

    def _quote(self, refusal: Refusal) -> str:
        """Quote a server, shortened and without the key."""
        message = refusal.message.replace(self._key, "***") if self._key else refusal.message
        return f"{refusal.status} {message[:MAX_MESSAGE]}".strip()

    @property
    def _where(self) -> str:
        return f"{self.name} at {self._settings.host}"


def open_endpoint(settings: EndpointSettings) -> Endpoint:
    """Reach the model behind a server.

    One short question is asked (a few tokens, at your cost), so that a wrong key, name or address shows at once, and
    the revision holds which model the server says it is.

    Parameters
    ----------
    settings
        Where it is, and how to ask.

    Raises
    ------
    ConnectomeBenchError
        If `openai` is not installed, there is no key, the server does not answer, or it does not know the model.
    """
    key = read_key(settings)
    endpoint = Endpoint(settings, make_client(settings, key), key)
    endpoint.greet()
    return endpoint


def _asks_too_long(state: RetryCallState) -> bool:
    return (asked_wait_s(state) or 0.0) > _LONGEST_ASKED_S
