"""Endpoints against a real server of this machine: what is sent, what it is called, what a reply is."""

from __future__ import annotations

import base64
import io
import json
import re
from typing import Any

import pytest
from endpoint_server import GREEDY, Server, completion, error, one, opened, talk
from PIL import Image
from starlette.responses import Response
from stored_rows import png, row

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.endpoint_requests import chat_messages
from connectomebench.models.prompt import messages

KEY = "sk-very-secret-0123456789"


# what is sent


def test_stored_pictures_go_unchanged_between_the_texts_they_belong_to(server: Server) -> None:
    stored = row(1, "yes")
    for image in stored["images"]:
        # other bytes than encoding the picture again would give
        stream = io.BytesIO()
        Image.open(io.BytesIO(image["bytes"])).save(stream, "PNG", compress_level=1)
        image["bytes"] = stream.getvalue()
    opened(server).reply([Conversation(messages(stored), stored["images"])], GREEDY)
    (asked,) = server.asked()
    (turn,) = asked["messages"]
    parts = turn["content"]
    assert [part["type"] for part in parts] == [
        {"text": "text", "image": "image_url"}[part["type"]] for part in messages(stored)[0]["content"]
    ]
    sent = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    assert [base64.b64decode(url.removeprefix("data:image/png;base64,")) for url in sent] == [
        image["bytes"] for image in stored["images"]
    ]
    assert (asked["model"], asked["temperature"], asked["max_tokens"]) == ("tiny", 0.0, 512)
    assert "seed" not in asked


@pytest.mark.parametrize("form", ["pil", "jpeg"])
def test_other_pictures_become_png(form: str) -> None:
    picture = Image.open(io.BytesIO(png(3)))
    stream = io.BytesIO()
    picture.save(stream, "JPEG")
    image = picture if form == "pil" else {"bytes": stream.getvalue(), "path": None}
    turns = chat_messages(Conversation([{"role": "user", "content": [{"type": "image"}]}], [image]))
    content = base64.b64decode(turns[0]["content"][0]["image_url"]["url"].removeprefix("data:image/png;base64,"))
    shown = Image.open(io.BytesIO(content))
    expected = picture if form == "pil" else Image.open(stream)
    assert shown.format == "PNG" and shown.tobytes() == expected.convert("RGB").tobytes()


def test_turns_of_others_than_the_user_are_plain_text() -> None:
    part = {"type": "text", "text": "yes"}
    roles = ("system", "user", "assistant", "user")
    turns = chat_messages(Conversation([{"role": role, "content": [part, part]} for role in roles], []))
    assert [turn["content"] for turn in turns] == ["yesyes", [part, part], "yesyes", [part, part]]


def test_draws_of_one_conversation_differ_in_their_seed(server: Server) -> None:
    first, second = talk("a", seed=7), talk("b", seed=2**31 - 1)
    opened(server).reply([first, second, first, first, second], Sampling(0.7, 32))
    assert [one["seed"] for one in server.asked()] == [7, 2**31 - 1, 8, 9, 0]
    assert {(one["temperature"], one["top_p"], one["max_tokens"]) for one in server.asked()} == {(0.7, 1.0, 32)}


def test_more_fields_go_with_every_request_and_into_the_revision(server: Server) -> None:
    plain = opened(server)
    more = opened(server, extra_body={"reasoning_effort": "low"})
    one(more)
    assert server.asked()[-1]["reasoning_effort"] == "low"
    assert more.revision != plain.revision and opened(server).revision == plain.revision


# what it is called


def test_the_revision_holds_what_the_server_says_it_is(server: Server) -> None:
    endpoint = opened(server)
    assert endpoint.name == "tiny" and re.fullmatch(r"tiny-2026-01-01@localhost\+[0-9a-f]{8}", endpoint.revision)
    server.models = {"data": [{"id": "tiny", "root": "/weights/another-vl"}]}
    assert opened(server).revision != endpoint.revision
    server.usual = lambda body: Response(json.dumps(completion(model="tiny-2026-06-01")))
    assert opened(server).revision.startswith("tiny-2026-06-01@")


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("/home/me/models/tiny-vl/", "tiny-vl"),
        ("./tiny-vl", "tiny-vl"),
        ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
        ("qwen2.5vl:7b", "qwen2.5vl:7b"),
        ("a/../../b c\n", "a/b-c-"),
    ],
)
def test_names_are_folders_and_tell_nothing_of_the_machine(server: Server, model: str, name: str) -> None:
    server.usual = lambda body: Response(json.dumps(completion(model=f"{body['model']}@main")))
    endpoint = opened(server, model=model)
    assert endpoint.name == name and "/home" not in endpoint.revision


def test_another_model_behind_the_same_name_stops_the_run(server: Server) -> None:
    endpoint = opened(server)
    one(endpoint)
    server.next.append(completion(model="tiny-2026-06-01"))
    with pytest.raises(ConnectomeBenchError, match="was tiny-2026-01-01 and is now tiny-2026-06-01"):
        one(endpoint)


def test_a_changed_fingerprint_is_told_once(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    endpoint = opened(server)
    server.next.extend([completion(), completion(system_fingerprint="fp_2"), completion(system_fingerprint="fp_3")])
    for _ in range(3):
        one(endpoint)
    assert caplog.text.count("fingerprint") == 1


# what a reply is


def test_tokens_and_the_three_sources_of_a_price(server: Server) -> None:
    reply = one(opened(server))
    assert (reply.text, reply.prompt_tokens, reply.tokens, reply.cost_usd) == ("<answer>yes</answer>", 100, 10, None)
    priced = opened(server, usd_per_million_prompt=2.0, usd_per_million_reply=30.0)
    assert one(priced).cost_usd == pytest.approx((100 * 2 + 10 * 30) / 1e6)
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "cost": 0.25}
    server.next.append(completion(usage=usage))
    assert one(priced).cost_usd == 0.25


def test_reasoning_that_is_in_the_total_alone_counts_as_written(server: Server) -> None:
    endpoint = opened(server)
    server.next.append(completion(usage={"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 400}))
    assert one(endpoint).tokens == 300


@pytest.mark.parametrize("usage", [None, [], {"prompt_tokens": "many", "completion_tokens": -1, "cost": "free"}])
def test_without_sound_counts_there_is_no_cost(server: Server, usage: Any) -> None:
    endpoint = opened(server, usd_per_million_prompt=2.0, usd_per_million_reply=30.0)
    server.next.append(completion(usage=usage))
    reply = one(endpoint)
    assert (reply.prompt_tokens, reply.tokens, reply.cost_usd) == (None, None, None)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (completion(None), ""),
        (
            completion([{"type": "text", "text": "<answer>"}, {"type": "text", "text": "no</answer>"}]),
            "<answer>no</answer>",
        ),
        (completion("half a pair \ud800"), "half a pair ?"),
        (completion(None, choices=[{"message": {"content": None, "refusal": "I cannot."}}]), "I cannot."),
        (completion("<answer>ye", "length"), "<answer>ye"),
        (completion("", "content_filter"), ""),
        (error(400, "flagged", code="content_filter"), ""),
        (error(400, "Could not finish the message because max_tokens or model output limit was reached."), ""),
    ],
)
def test_odd_replies_are_kept(server: Server, answer: Any, text: str) -> None:
    endpoint = opened(server)
    server.next.append(answer if isinstance(answer, Response) else Response(json.dumps(answer)))
    assert one(endpoint).text == text and len(server.asked()) == 1


@pytest.mark.parametrize(
    ("finish", "told"), [("length", "truncated at 512 tokens"), ("content_filter", "withheld by a content filter")]
)
def test_what_was_cut_or_withheld_is_told_once(
    server: Server, caplog: pytest.LogCaptureFixture, finish: str, told: str
) -> None:
    endpoint = opened(server)
    server.usual = lambda body: Response(json.dumps(completion("", finish)))
    replies = endpoint.reply([talk(), talk()], GREEDY)
    assert caplog.text.count(told) == 1
    assert [reply.whole for reply in replies] == [False, False]
    server.usual = lambda body: Response(json.dumps(completion("<answer>yes</answer>")))
    assert endpoint.reply([talk()], GREEDY)[0].whole
