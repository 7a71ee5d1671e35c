"""Endpoints whose server fails in every way a server can, or wants other parameters."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from endpoint_server import GREEDY, Server, completion, error, one, opened, talk
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse, Response

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models import endpoint as endpoint_module
from connectomebench.models.chat import Sampling, UnansweredError
from connectomebench.models.endpoint import EndpointConfig, open_endpoint
from connectomebench.models.endpoint_errors import masked, read_refusal

KEY = "sk-very-secret-0123456789"


# what is billed though nobody waits for it any longer

PRICES = {"usd_per_million_prompt": 10_000.0, "usd_per_million_reply": 100_000.0}


def test_requests_that_timed_out_count_as_much_as_they_may_have_cost(server: Server) -> None:
    # 100 tokens read and 10 written cost 1 + 1 USD; one that timed out may have written all of 50
    endpoint = opened(server, **PRICES)
    assert one(endpoint, Sampling(0.0, 50)).cost_usd == pytest.approx(2)
    server.next += [error(504, "upstream timed out"), error(408), error(503)]
    with pytest.raises(UnansweredError) as caught:
        endpoint.reply([talk()], Sampling(0.0, 50))
    assert (caught.value.requests, caught.value.cost_usd) == (2, pytest.approx(2 * 6))
    server.next += [error(504)]
    assert one(endpoint, Sampling(0.0, 50)).cost_usd == pytest.approx(2 + 6)
    # votes that were answered before one that never is
    server.next += [completion(), completion(), error(400, "broken")]
    with pytest.raises(UnansweredError) as caught:
        endpoint.reply([talk()] * 3, Sampling(0.5, 50))
    assert (caught.value.requests, caught.value.cost_usd) == (2, pytest.approx(4))
    # a server that was never reached, or refuses at once, costs nothing
    server.next += [error(400, "broken")]
    with pytest.raises(ConnectomeBenchError) as refused:
        one(endpoint)
    assert not isinstance(refused.value, UnansweredError)


def test_a_request_nobody_waited_for_is_counted_with_and_without_prices(server: Server) -> None:
    for prices, cost in (({}, None), (PRICES, pytest.approx(2 * (100 * 0.01 + 512 * 0.1)))):
        endpoint = opened(server, timeout_s=0.8, retries=1, **prices)
        server.delay_s = 1.6
        with pytest.raises(UnansweredError, match=r"no answer for 0\.8 s \(2 times\)") as caught:
            one(endpoint)
        assert (caught.value.requests, caught.value.cost_usd) == (2, cost)
        server.delay_s = 0.0
    server.next += [completion(usage={"prompt_tokens": 9, "completion_tokens": 9, "cost": 0.25})]
    assert one(opened(server)).cost_usd is None, "the greeting took the answer"
    endpoint = opened(server)
    server.next += [error(504), completion(usage={"prompt_tokens": 9, "completion_tokens": 9, "cost": 0.25})]
    assert one(endpoint).cost_usd == 0.5


# failures that pass


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (error(429, "slow down"), "429 slow down"),
        (error(500, "oops"), "500 oops"),
        (PlainTextResponse("<html><style>p {}</style><p>Bad  gateway</p></html>", 502), "502 Bad gateway"),
        (error(503), "503 no"),
        (PlainTextResponse("rubbish"), "not valid JSON"),
        (PlainTextResponse(json.dumps(completion())[:80], media_type="application/json"), "not valid JSON"),
        (PlainTextResponse("[" * 100_000), "not valid JSON"),
        (PlainTextResponse("[1]"), "not a chat completion"),
        ({"choices": []}, "without a choice"),
        ({"choices": [{"message": None}]}, "without a choice"),
        ({"error": {"code": 503, "message": "provider is down"}}, "503 provider is down"),
        ({"error": "provider is down"}, "502 provider is down"),
    ],
)
def test_failures_that_pass_are_asked_again_and_told(
    server: Server, caplog: pytest.LogCaptureFixture, failure: Any, told: str
) -> None:
    caplog.set_level(logging.INFO)
    endpoint = opened(server)
    server.next.append(failure)
    assert one(endpoint).text == "<answer>yes</answer>"
    assert len(server.asked()) == 2
    (line,) = [record.getMessage() for record in caplog.records if "retrying in" in record.getMessage()]
    assert told in line and "(1 of 2)" in line


def test_what_does_not_pass_ends_in_one_line(server: Server) -> None:
    endpoint = opened(server)
    server.usual = lambda body: error(503, "overloaded")
    with pytest.raises(ConnectomeBenchError, match=r"tiny at localhost: 503 overloaded \(3 times\)") as caught:
        one(endpoint)
    assert len(server.asked()) == 3 and "\n" not in str(caught.value)


def test_pauses_double_up_to_a_bound(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = opened(server, retries=9)
    slept: list[float] = []
    monkeypatch.setattr(endpoint_module, "_FIRST_PAUSE_S", 1.0)
    monkeypatch.setattr(time, "sleep", slept.append)
    server.usual = lambda body: error(500)
    with pytest.raises(ConnectomeBenchError, match="10 times"):
        one(endpoint)
    assert all(
        0.75 * most <= pause <= most for most, pause in zip([1, 2, 4, 8, 16, 32, 60, 60, 60], slept, strict=True)
    )


def test_the_server_says_how_long_to_wait(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = opened(server)
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    in_a_minute = formatdate(time.time() + 60, usegmt=True)
    server.next.extend([error(429, headers={"retry-after": "7.5"}), error(503, headers={"retry-after": in_a_minute})])
    one(endpoint)
    assert slept[0] == 7.5 and slept[1] == pytest.approx(60, abs=3)
    server.next.append(error(429, headers={"retry-after": "3600"}))
    with pytest.raises(ConnectomeBenchError, match="asks to wait 3600 s"):
        one(endpoint)


@pytest.mark.parametrize("value", ["soon", "nan", "-5", ""])
def test_no_wait_makes_no_harm(value: str) -> None:
    assert read_refusal(429, "", {"retry-after": value}).wait_s in (None, 0.0)


def test_a_silent_server(server: Server) -> None:
    endpoint = opened(server, timeout_s=0.8, retries=1)
    server.delay_s = 1.6
    with pytest.raises(ConnectomeBenchError, match=r"no answer for 0\.8 s \(2 times\)"):
        one(endpoint)


def test_a_connection_that_breaks_off(server: Server) -> None:
    endpoint = opened(server)
    server.next.append(Response(b"{", headers={"content-length": "500"}))
    assert one(endpoint).text == "<answer>yes</answer>"


# failures the user must mend


def test_no_server() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nobody else can answer there
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        with pytest.raises(ConnectomeBenchError, match=r"tiny at localhost cannot be reached; is the server running\?"):
            open_endpoint(EndpointConfig(url, "tiny"))


@pytest.mark.parametrize("status", [401, 403])
def test_a_bad_key_is_not_shown(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("MY_KEY", KEY)
    server.usual = lambda body: error(status, f"Incorrect API key provided: {KEY}")
    with pytest.raises(ConnectomeBenchError, match=f"refuses the key in MY_KEY \\({status}\\)") as caught:
        opened(server, key_variable="MY_KEY")
    assert server.headers[0]["authorization"] == f"Bearer {KEY}"
    shown = "".join(traceback.format_exception(caught.value))
    assert KEY not in shown + caplog.text and len(server.requests) == 1


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_server_that_repeats_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    endpoint = opened(server, retries=1)
    server.usual = lambda body: error(status, f"you sent {KEY} \x1b[2J")
    with pytest.raises(ConnectomeBenchError, match=r"you sent \*\*\*") as caught:
        one(endpoint)
    assert KEY not in str(caught.value) + caplog.text + repr(endpoint) and "\x1b" not in str(caught.value)


def test_this_machine_needs_no_key_and_is_sent_none(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-mine")
    one(opened(server))
    assert {"authorization", "openai-organization"}.isdisjoint(server.headers[-1])
    server.usual = lambda body: error(401)
    with pytest.raises(ConnectomeBenchError, match="needs a key; set it in OPENAI_API_KEY"):
        opened(server)


def test_a_proxy_is_not_asked_about_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    assert one(opened(server)).text


def test_other_machines_need_a_key_and_a_safe_way_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConnectomeBenchError, match=r"api\.example\.org needs a key: .* NO_KEY"):
        open_endpoint(EndpointConfig("https://api.example.org/v1", "m", "NO_KEY"))
    monkeypatch.setenv("MY_KEY", KEY)
    with pytest.raises(ConnectomeBenchError, match=r"would go to api\.example\.org unencrypted") as caught:
        EndpointConfig("http://api.example.org/v1", "m", "MY_KEY")
    assert KEY not in str(caught.value)
    monkeypatch.setenv("MY_KEY", f"{KEY}\nX-More: 1")
    with pytest.raises(ConnectomeBenchError, match="invalid characters") as caught:
        open_endpoint(EndpointConfig("https://api.example.org/v1", "m", "MY_KEY"))
    assert KEY not in str(caught.value)


def test_an_unknown_model_lists_those_there_are(server: Server) -> None:
    server.models = {"data": [{"id": "small"}, {"id": "large"}]}
    server.usual = lambda body: error(404, "The model `tiny` does not exist.")
    with pytest.raises(ConnectomeBenchError, match=r"tiny at localhost was not found .*; it serves small, large"):
        opened(server)
    server.models = Response(status_code=404)
    with pytest.raises(ConnectomeBenchError, match="address ends in /v1"):
        opened(server)


@pytest.mark.parametrize("models", [Response("{"), Response("[]"), {"data": {}}, {"data": ["tiny"]}, error(403)])
def test_a_list_of_models_is_not_needed(server: Server, models: Any) -> None:
    server.models = models
    assert one(opened(server)).text


def test_an_empty_account_is_not_asked_again(server: Server) -> None:
    endpoint = opened(server)
    server.next.append(error(429, "You exceeded your current quota", code="insufficient_quota"))
    with pytest.raises(ConnectomeBenchError, match="refuses the request: 429 You exceeded your current quota"):
        one(endpoint)


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"url": f"https://me:{KEY}@example.org/v1"}, "leave user, password"),
        ({"url": f"https://example.org/v1?key={KEY}"}, "leave user, password"),
        ({"url": "https://example.org:port/v1"}, "is not a URL"),
        ({"url": "file:///etc/passwd"}, "must begin with http"),
        ({"url": "127.0.0.1:8000"}, "must begin with http"),
        ({"url": "https://example.org/v1/chat/completions"}, "leave /chat/completions out"),
        ({"key_variable": KEY}, "not a valid environment variable name"),
        ({"model": " "}, "name the model"),
        ({"timeout_s": 0.0}, "timeout"),
        ({"timeout_s": float("inf")}, "timeout"),
        ({"retries": -1}, "retries"),
        ({"usd_per_million_prompt": 1.0}, "both prices"),
        ({"usd_per_million_prompt": -1.0, "usd_per_million_reply": 1.0}, "at least 0 USD"),
        ({"usd_per_million_prompt": float("nan"), "usd_per_million_reply": 1.0}, "at least 0 USD"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=told) as caught:
        EndpointConfig(**({"url": "https://example.org/v1", "model": "m"} | settings))
    assert KEY not in str(caught.value)


# servers that take other parameters


def like_gpt5(body: dict[str, Any]) -> Response:
    """What OpenAI's reasoning models answer."""
    if "max_tokens" in body:
        told = (
            "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead."
        )
        return error(400, told, param="max_tokens", code="unsupported_parameter")
    if body.get("temperature", 1) != 1:
        told = "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) is supported."
        return error(400, told, param="temperature", code="unsupported_value")
    return Response(json.dumps(completion()))


def test_a_reasoning_model_is_asked_in_its_own_words_from_then_on(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    plain = opened(server)
    server.usual = like_gpt5
    endpoint = opened(server)
    assert not endpoint.takes_temperature and plain.takes_temperature and endpoint.revision != plain.revision
    endpoint.reply([talk(), talk()], Sampling(0.7, 64))
    assert len(server.asked()) == 2
    for asked in server.asked():
        assert asked["max_completion_tokens"] == 64 and {"max_tokens", "temperature"}.isdisjoint(asked)
    for told in (
        "takes max_completion_tokens in place of max_tokens",
        "takes no temperature, and samples replies at its own setting",
    ):
        assert caplog.text.count(told) == 1


@pytest.mark.parametrize(
    ("refusal", "spared"),
    [
        (error(422, detail="x", message="Unexpected fields in the request: {'seed'}"), "seed"),
        (Response('{"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}', 422), "seed"),
        (Response('[{"error": {"code": 400, "message": "Unknown name \\"seed\\": Cannot find field."}}]', 400), "seed"),
        (error(400, "`temperature` and `top_p` are not supported together", param="top_p"), "top_p"),
    ],
)
def test_other_words_for_the_same_refusal(server: Server, refusal: Response, spared: str) -> None:
    endpoint = opened(server)
    server.next.append(refusal)
    one(endpoint, Sampling(0.7))
    first, second = server.asked()
    assert first.keys() - second.keys() == {spared}


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "max_tokens is too large: 99999. This model supports at most 4096", param="max_tokens"),
        error(400, "temperature must be between 0 and 1"),
        error(400, "This model's maximum context length is 4096 tokens, which your messages exceed."),
        error(400, "image_url is not supported by this model"),
        error(413, "temperature unsupported"),
    ],
)
def test_what_cannot_be_spared_is_the_users_to_mend(server: Server, refusal: Response) -> None:
    endpoint = opened(server)
    server.usual = lambda body: refusal
    with pytest.raises(ConnectomeBenchError, match="refuses the request: 4"):
        one(endpoint)
    assert len(server.asked()) == 1


def test_a_server_that_takes_nothing_is_not_asked_for_ever(server: Server) -> None:
    server.usual = lambda body: error(400, "max_tokens, temperature, top_p, seed: not supported")
    with pytest.raises(ConnectomeBenchError, match="refuses the request"):
        opened(server)
    assert len(server.requests) < 5


def test_several_threads_learn_together_and_get_their_own_replies(server: Server) -> None:
    endpoint = opened(server)
    server.delay_s = 0.05

    def echo(body: dict[str, Any]) -> Response:
        refused = like_gpt5(body)
        return (
            refused
            if refused.status_code == 400
            else Response(json.dumps(completion(body["messages"][0]["content"][0]["text"])))
        )

    server.usual = echo
    begin = threading.Barrier(8)

    def ask(number: int) -> list[str]:
        begin.wait()
        return [reply.text for reply in endpoint.reply([talk(f"{number}a"), talk(f"{number}b")], GREEDY)]

    with ThreadPoolExecutor(8) as pool:
        texts = list(pool.map(ask, range(8)))
    assert texts == [[f"{n}a", f"{n}b"] for n in range(8)] and server.most > 1
    assert not endpoint.takes_temperature


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(ConnectomeBenchError, match=r"pip install 'connectomebench\[endpoint\]'"):
        open_endpoint(EndpointConfig("http://127.0.0.1:9/v1", "m"))


KEY = "sk-proj-Ab3dE6gH9jKlMnOp"


@given(start=st.integers(0, len(KEY) - 4), length=st.integers(4, len(KEY)), around=st.text(max_size=20))
def test_no_part_of_a_key_is_quoted(start: int, length: int, around: str) -> None:
    part = KEY[start : start + length]
    for said in (part, part.upper(), f"{part[:4]}...{part[-4:]}"):
        shown = masked(f"{around} {said} {around}", KEY).lower()
        assert all(KEY[i : i + 4].lower() not in shown for i in range(len(KEY) - 3))


def test_other_words_stay() -> None:
    assert masked("the model is not there; see the list", KEY) == "the model is not there; see the list"
    assert masked(f"Incorrect key: {KEY[:8]}***{KEY[-4:]}. Find it", KEY) == "Incorrect key: *********. Find it"
    assert masked("none of these", "none") == "*** of these" and masked("a", None) == "a" == masked("a", "")
