"""Given answers scored by a server that answers as vLLM documents it."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
from endpoint_server import Server, completion, opened, serve, talk
from PIL import Image
from starlette.responses import JSONResponse
from vllm_server import scoring, tokens_of

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.evaluation.answer_mode import AnswerMode, can_score, scores_by_default
from connectomebench.evaluation.chat_adapter import ChatModelAdapter
from connectomebench.models.chat import Conversation
from connectomebench.models.endpoint_scoring import read_prompt_tokens

PICTURED = Conversation(
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}],
    [Image.new("RGB", (8, 8))],
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serve() as running:
        yield running


def by_text(known: dict[str, float]):
    """Log-probabilities of tokens by their text; those of all others differ from place to place."""
    return lambda tokens, place: known.get(tokens[place], -0.1 * (place % 7))


def test_yes_and_no_have_the_share_of_their_tokens(server: Server) -> None:
    server.usual = scoring(by_text({"yes": -1.25, "no": -0.5, "</": -9.0}))
    endpoint = opened(server)
    [scores] = endpoint.score([PICTURED], ("no", "yes"))
    yes, no = math.exp(-1.25), math.exp(-0.5)
    assert scores == pytest.approx({"no": no / (yes + no), "yes": yes / (yes + no)})
    asked = server.requests[-2:]
    for body, label in zip(asked, ("no", "yes"), strict=True):
        assert (body["prompt_logprobs"], body["add_generation_prompt"], body["continue_final_message"]) == (
            0,
            False,
            True,
        )
        assert body["max_tokens"] == 1 and body["temperature"] == 0
        assert body["messages"][-1] == {"role": "assistant", "content": f"<answer>{label}</answer>"}
        assert [part["type"] for part in body["messages"][0]["content"]] == ["image_url", "text"]
    two = endpoint.score([talk(), PICTURED], ("yes", "no"))
    assert [list(one) for one in two] == [["yes", "no"]] * 2 and two[1] == pytest.approx(scores)


def test_a_label_of_several_tokens_counts_as_a_whole(server: Server) -> None:
    assert tokens_of("<answer>a</answer>") == ["<", "answer", ">a", "</", "answer", ">"]
    assert tokens_of("<answer>none</answer>") == ["<", "answer", ">", "none", "</", "answer", ">"]
    server.usual = scoring(by_text({">a": -1.0, ">b": -2.0, ">": -0.1, "none": -5.0, "<": -3.0, "</": -8.0}))
    [scores] = opened(server).score([talk()], ("a", "b", "none"))
    weights = {"a": math.exp(-1.0), "b": math.exp(-2.0), "none": math.exp(-5.1)}
    assert scores == pytest.approx({label: weight / sum(weights.values()) for label, weight in weights.items()})


def test_scored_answers_are_asked_for_and_never_the_default(server: Server) -> None:
    server.usual = scoring(by_text({"yes": -0.1, "no": -3.0}))
    endpoint = opened(server)
    assert can_score(endpoint) and not scores_by_default(endpoint)
    adapter = ChatModelAdapter(endpoint, AnswerMode("scored"))
    batch = {"task": ["merge_action"], "question": ["Is it?"], "views": [["front"]], "images": [PICTURED.images]}
    [answer] = adapter.predict(batch)
    assert answer.prediction == "yes" and answer.probabilities["yes"] == pytest.approx(1 / (1 + math.exp(-2.9)))
    with pytest.raises(ConnectomeBenchError, match="cost of scored answers is not recorded"):
        opened(server, usd_per_million_prompt=1.0, usd_per_million_reply=1.0).score([talk()], ("no", "yes"))
    server.models = {"data": [{"id": "tiny", "owned_by": "organization_owner"}]}
    with pytest.raises(ConnectomeBenchError, match="only generates text and cannot be scored; use generated"):
        ChatModelAdapter(opened(server), AnswerMode("scored"))


@pytest.mark.parametrize(
    ("before", "words"),
    [("<think>\n\n</think>\n\n", "thinks before it answers and cannot be scored; use generated"), ("", None)],
)
def test_models_that_think_are_refused(server: Server, before: str, words: str | None) -> None:
    server.usual = scoring(by_text({}), before)
    endpoint = opened(server)
    if words is None:
        assert sum(endpoint.score([talk("Say <think> or not.")], ("no", "yes"))[0].values()) == pytest.approx(1)
        return
    with pytest.raises(ConnectomeBenchError, match=words):
        endpoint.score([talk()], ("no", "yes"))


def test_servers_that_answer_otherwise_get_one_line(server: Server) -> None:
    endpoint = opened(server)
    known = {"logprob": -1.0, "rank": 1, "decoded_token": "<answer>yes</answer>"}
    for stated, words in (
        ([], "gives no prompt_logprobs"),
        (None, "gives no prompt_logprobs"),
        ([None, {"1": known, "2": known}], "gives no prompt_logprobs"),
        ([None, {"1": {"rank": 1}}], "gives no prompt_logprobs"),
        ([None, {"1": known | {"decoded_token": "<|im_end|>"}}], "does not take a reply that has begun"),
        ([None, {"1": known | {"logprob": None}}], "gives no prompt_logprobs"),
    ):
        server.usual = lambda body, stated=stated: JSONResponse(completion() | {"prompt_logprobs": stated})
        with pytest.raises(ConnectomeBenchError, match=words) as caught:
            endpoint.score([talk()], ("no", "yes"))
        assert "\n" not in str(caught.value) and "use generated" in str(caught.value)
    assert read_prompt_tokens({"prompt_logprobs": [None, {"7": known}]})[0].number == 7
