"""Chat model on an OpenAI-compatible server: vLLM, transformers serve, llama.cpp, or a hosted API."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception_type

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.files import content_key
from connectomebench.core.retry_policy import RetryPolicy, TransientError, asked_wait_s, failure_of
from connectomebench.models.chat import Conversation, Reply, Sampling, UnansweredError
from connectomebench.models.endpoint_errors import MAX_MESSAGE, Refusal, masked, read_refusal
from connectomebench.models.endpoint_requests import (
    UNFINISHED,
    Completion,
    Dialect,
    chat_messages,
    read_completion,
)
from connectomebench.models.endpoint_scoring import FIELDS, label_probabilities, reply_of
from connectomebench.models.endpoint_settings import (
    EndpointConfig,
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
# give up on servers that ask for a longer wait
_LONGEST_ASKED_S = 120.0
_GREETING = ({"role": "user", "content": [{"type": "text", "text": "Reply with the word ok."}]},)
# reasoning models may generate many tokens before any reply
_GREETING_TOKENS = (16, 1024)


# a gateway gave up waiting, while the model behind it may go on
_TIMED_OUT = (408, 504)


class _TimedOutError(TransientError):
    """A request that reached the server and was not answered in time."""


class Endpoint:
    """A :class:`connectomebench.models.chat.ChatModel` on a server; created by :func:`open_endpoint`.

    Thread-safe.

    Attributes
    ----------
    name
        Model name, without folders of the server's machine.
    revision
        Model, server and a hash of all known about both. The weights of a hosted model may change without it.
    batch_size
        1: one call is one request; several threads may call.
    takes_temperature
        False if the server ignores the requested temperature.
    """

    batch_size = 1
    scored_by_default = False
    """Answers are generated unless ``scored`` is asked for."""
    why_not_scored = "only generates text"
    """Why, where `can_score` is False."""
    can_score = False
    """Whether the server says that it is vLLM, which gives the log-probabilities of a prompt."""

    def __init__(self, settings: EndpointConfig, client: OpenAI, key: str | None) -> None:
        self._settings = settings
        self._client = client
        self._key = key
        self._lock = threading.Lock()
        self._dialect = Dialect()
        self._warned: set[str] = set()
        self._model: str | None = None
        self._fingerprint: str | None = None
        self._longest_prompt = 0
        self.name = without_folders(settings.model)
        self.revision = ""

    def __repr__(self) -> str:
        """Name model and server, without secrets."""
        return f"Endpoint({self.name!r} at {self._settings.host})"

    @property
    def takes_temperature(self) -> bool:  # noqa: D102
        return "temperature" not in self._dialect.left_out

    def reply(self, conversations: Sequence[Conversation], sampling: Sampling) -> list[Reply]:
        """Reply to every conversation, one request after the other.

        Parameters
        ----------
        conversations
            The ``k``-th sample of the same object uses its seed plus ``k``. Whether a server honours seeds depends on
            the server.
        sampling
            Temperature and length, as far as the server accepts them.

        Returns
        -------
        list of Reply
            Truncated or withheld text is kept as received and marked as not whole, so that no answer is read from it.

        Raises
        ------
        UnansweredError
            If the server still fails after all retries, or refuses a request, after others that may be billed: earlier
            ones of this call, and those that timed out.
        ConnectomeBenchError
            If it fails before any of these.
        """
        asked: Counter[int] = Counter()
        replies: list[Reply] = []
        for conversation in conversations:
            draw = asked[id(conversation)]
            asked[id(conversation)] += 1
            timeouts: list[str] = []
            try:
                completion = self._ask(conversation, sampling, conversation.seed + draw, timeouts)
            except ConnectomeBenchError as error:
                raise self._unanswered(error, replies, len(timeouts), sampling) from None
            replies.append(
                Reply(
                    completion.text,
                    completion.prompt_tokens,
                    completion.tokens,
                    self._cost(completion, len(timeouts), sampling),
                    whole=completion.finish not in UNFINISHED,
                )
            )
        return replies

    def score(self, conversations: Sequence[Conversation], labels: Sequence[str]) -> list[dict[str, float]]:
        """Return the probability of each given answer as the next turn, with one request an answer.

        Parameters
        ----------
        conversations, labels
            As for :meth:`connectomebench.models.vlm.VisionLanguageModel.score`.

        Raises
        ------
        ConnectomeBenchError
            If the server fails after all retries, gives no log-probabilities, or the model thinks before it answers;
            also if prices were given, since the cost of scores is not recorded.
        """
        if self._settings.usd_per_million_prompt is not None:
            raise ConnectomeBenchError(
                "the cost of scored answers is not recorded; leave the prices out, or use generated"
            )
        scores = []
        for conversation in conversations:
            prompts = []
            for label in labels:
                reply = {"role": "assistant", "content": [{"type": "text", "text": reply_of(label)}]}
                whole = Conversation([*conversation.messages, reply], conversation.images, conversation.seed)
                prompts.append(self._ask(whole, Sampling(0.0, 1), 0, [], extra=FIELDS).prompt)
            scores.append(label_probabilities(prompts, labels, self._where))
        return scores

    def _unanswered(
        self, error: ConnectomeBenchError, replies: Sequence[Reply], timeouts: int, sampling: Sampling
    ) -> ConnectomeBenchError:
        """Add what requests may have cost to the error of a call that fails."""
        if not replies and not timeouts:
            return error
        lost = self._cost_of(self._longest_prompt, sampling.max_new_tokens)
        costs = [*(reply.cost_usd for reply in replies), *[lost] * timeouts]
        known = [cost for cost in costs if cost is not None]
        return UnansweredError(str(error), len(costs), sum(known) if len(known) == len(costs) else None)

    def greet(self) -> None:
        """Send one short question to learn the accepted parameters and identity of the server; set the revision."""
        said = self._listed()
        completion = Completion("", "")
        for length in _GREETING_TOKENS:
            completion = self._ask(Conversation(_GREETING, ()), Sampling(0.0, length), 0, [], greeting=True)
            if completion.model is not None:
                break
        self._model, self._fingerprint = completion.model, completion.fingerprint
        known = [entry for entry in said if entry.get("id") == self._settings.model]
        self.can_score = any(entry.get("owned_by") == "vllm" for entry in known)
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

    def _ask(
        self,
        conversation: Conversation,
        sampling: Sampling,
        seed: int,
        timeouts: list[str],
        *,
        greeting: bool = False,
        extra: Mapping[str, Any] = MappingProxyType({}),
    ) -> Completion:
        """Ask with retries; requests that time out are added to ``timeouts``, since a server may bill them.

        With ``extra`` fields the reply itself is not of interest, so that it may be cut.
        """

        def attempt(messages: list[dict[str, Any]]) -> Completion:
            try:
                return self._answer(messages, sampling, seed, extra)
            except _TimedOutError as error:
                timeouts.append(error.reason)
                raise

        answer = self._retrying()(attempt, chat_messages(conversation))
        with self._lock:
            self._longest_prompt = max(self._longest_prompt, answer.prompt_tokens or 0)
        if not greeting:
            self._notice(replace(answer, finish="stop") if extra else answer, sampling)
        return answer

    def _answer(
        self, messages: list[dict[str, Any]], sampling: Sampling, seed: int, extra: Mapping[str, Any]
    ) -> Completion:
        """Ask once, with adapted parameters if the server refuses some."""
        while True:
            dialect = self._dialect
            answer = self._request(messages, dialect.parameters(sampling, seed), extra)
            if isinstance(answer, Completion):
                return answer
            if answer.transient:
                kind = _TimedOutError if answer.status in _TIMED_OUT else TransientError
                raise kind(self._quote(answer), answer.wait_s)
            if answer.blocked or answer.cut:
                return Completion("", "content_filter" if answer.blocked else "length")
            if not self._learn(dialect, answer):
                raise self._refused(answer)

    def _request(
        self, messages: list[dict[str, Any]], parameters: dict[str, Any], extra: Mapping[str, Any]
    ) -> Completion | Refusal:
        """Send one request."""
        import httpx
        import openai

        create: Any = self._client.chat.completions.with_raw_response.create
        try:
            raw = create(
                model=self._settings.model,
                messages=messages,
                extra_headers=key_headers(self._key),
                extra_body={**self._settings.extra_body, **extra} or None,
                **parameters,
            )
            return read_completion(raw.text)
        except openai.APITimeoutError as error:
            reached = not isinstance(error.__cause__, httpx.ConnectTimeout)
            kind = _TimedOutError if reached else TransientError
            raise kind(f"no answer for {self._settings.timeout_s:g} s") from None
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
        """Log the retry and its delay."""
        pause_s = state.next_action.sleep if state.next_action else 0.0
        _log.info(
            "%s: %s; retrying in %.1f s (%d of %d)",
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
        raise ConnectomeBenchError(f"{self._where}: {reason}; run the same command again later to resume")

    def _learn(self, dialect: Dialect, refusal: Refusal) -> bool:
        """Adapt the parameters of all later requests to a refusal; return whether that is possible."""
        with self._lock:
            if self._dialect != dialect:
                return True  # another thread has adapted meanwhile
            learnt = dialect.learn(refusal)
            if learnt is None:
                return False
            self._dialect = learnt
        for name in sorted(learnt.left_out - dialect.left_out):
            # without a temperature the same row may get different answers, even with greedy decoding requested
            own = ", and samples replies at its own setting" if name == "temperature" else ""
            _log.warning("%s takes no %s%s", self._where, name, own)
        if learnt.length != dialect.length:
            _log.info("%s takes %s in place of %s", self._where, learnt.length, dialect.length)
        return True

    def _notice(self, completion: Completion, sampling: Sampling) -> None:
        """Warn once about truncated or filtered replies; raise if the answering model has changed."""
        if completion.model is not None and self._model is not None and completion.model != self._model:
            raise ConnectomeBenchError(
                f"{self._where} was {without_folders(self._model)} and is now {without_folders(completion.model)}; "
                "do not mix two models in one record; evaluate into another folder (--out)"
            )
        if completion.fingerprint != self._fingerprint:
            self._tell_once(f"{self._where} changed its system fingerprint during the evaluation")
        if completion.finish == "length":
            self._tell_once(
                f"{self._where}: a reply was truncated at {sampling.max_new_tokens} tokens (including reasoning); "
                "it has no answer; raise --max-new-tokens to allow more"
            )
        if completion.finish == "content_filter":
            self._tell_once(f"{self._where}: a reply was withheld by a content filter and counts as wrong")

    def _tell_once(self, message: str) -> None:
        with self._lock:
            warned, self._warned = message in self._warned, self._warned | {message}
        if not warned:
            _log.warning(message)

    def _cost(self, completion: Completion, timeouts: int, sampling: Sampling) -> float | None:
        """Return the cost of a reply, with the most that its requests that timed out may have cost."""
        cost = completion.cost_usd
        if cost is None and completion.tokens is not None:
            cost = self._cost_of(completion.prompt_tokens, completion.tokens)
        if cost is None or not timeouts:
            return cost
        most = self._cost_of(completion.prompt_tokens, sampling.max_new_tokens)
        return cost + timeouts * max(cost, most or 0.0)

    def _cost_of(self, prompt_tokens: int | None, tokens: int) -> float | None:
        """Return the cost of a request by the prices of tokens; None if these are unknown."""
        settings = self._settings
        if settings.usd_per_million_prompt is None or settings.usd_per_million_reply is None or prompt_tokens is None:
            return None
        return (prompt_tokens * settings.usd_per_million_prompt + tokens * settings.usd_per_million_reply) / 1e6

    def _listed(self) -> list[dict[str, Any]]:
        """Return the server's model list; empty if it has none.

        Raises
        ------
        ConnectomeBenchError
            If the server cannot be reached.
        """
        import openai

        try:
            payload: Any = self._client.models.with_raw_response.list(
                extra_headers=key_headers(self._key)
            ).http_response.json()
        except openai.APITimeoutError:
            return []  # reachable, and may be loading the model
        except openai.APIConnectionError:
            raise ConnectomeBenchError(f"{self._where} cannot be reached; is the server running?") from None
        except (openai.APIStatusError, ValueError, RecursionError):
            return []
        entries = payload.get("data") if isinstance(payload, dict) else None
        return [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []

    def _refused(self, refusal: Refusal) -> ConnectomeBenchError:
        """Return a one-line error that tells the user what to do about a refusal."""
        if refusal.status in (401, 403):
            # the server's message may contain part of the key
            variable = self._settings.key_variable
            if self._key is None:
                return ConnectomeBenchError(f"{self._where} needs a key; set it in {variable} (--key-variable)")
            return ConnectomeBenchError(f"{self._where} refuses the key in {variable} ({refusal.status}); correct it")
        if refusal.status == 404:
            names = [masked(str(entry.get("id")), self._key)[:MAX_MESSAGE] for entry in self._listed()]
            known = (
                f"it serves {', '.join(names[:20])}" if names else "check the name, and that the address ends in /v1"
            )
            return ConnectomeBenchError(f"{self._where} was not found ({self._quote(refusal)}); {known}")
        return ConnectomeBenchError(f"{self._where} refuses the request: {self._quote(refusal)}")

    def _quote(self, refusal: Refusal) -> str:
        """Quote a server's message, shortened and without any part of the key."""
        return f"{refusal.status} {masked(refusal.message, self._key)[:MAX_MESSAGE]}".strip()

    @property
    def _where(self) -> str:
        return f"{self.name} at {self._settings.host}"


def open_endpoint(settings: EndpointConfig) -> Endpoint:
    """Connect to the model on a server.

    Sends one short question (a few tokens, at your cost), so that a wrong key, name or address fails at once and
    the revision includes the model reported by the server.

    Parameters
    ----------
    settings
        Address, model and options.

    Raises
    ------
    ConnectomeBenchError
        If `openai` is not installed, the key is missing, the server does not answer, or the model is unknown.
    """
    key = read_key(settings)
    endpoint = Endpoint(settings, make_client(settings, key), key)
    endpoint.greet()
    return endpoint


def _asks_too_long(state: RetryCallState) -> bool:
    return (asked_wait_s(state) or 0.0) > _LONGEST_ASKED_S
