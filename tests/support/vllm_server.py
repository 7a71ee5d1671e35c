"""Answers of `chat/completions` with `prompt_logprobs`, as vLLM documents them; no model is behind them."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from endpoint_server import completion
from starlette.responses import JSONResponse, Response

# as the tokenizer of Qwen3 does: ">a" is one token, ">" and "none" are two
_TOKENS = re.compile(r"<\|\w+\|>|</?think>|>[a-f](?![a-z])|</|\w+|\s+|.", re.DOTALL)

LogProbability = Callable[[list[str], int], float]


def tokens_of(text: str) -> list[str]:
    return _TOKENS.findall(text)


def rendered(body: dict[str, Any], before_reply: str = "") -> str:
    """The prompt of a request, as the template of Qwen3-VL has it; an image is one token for each of its patches."""
    turns = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
        text = "".join(part["text"] if part["type"] == "text" else "<|image_pad|>" * 4 for part in parts)
        opened = before_reply if message["role"] == "assistant" else ""
        turns.append(f"<|im_start|>{message['role']}\n{opened}{text}<|im_end|>\n")
    prompt = "".join(turns)
    if body.get("continue_final_message"):
        return prompt.removesuffix("<|im_end|>\n")
    return prompt + "<|im_start|>assistant\n" if body.get("add_generation_prompt", True) else prompt


def scoring(log_probability: LogProbability, before_reply: str = "") -> Callable[[dict[str, Any]], Response]:
    """Return a function that answers requests; ``log_probability`` takes the tokens of a prompt and a place."""
    numbers: dict[str, int] = {}

    def answer(body: dict[str, Any]) -> Response:
        if "prompt_logprobs" not in body:
            return JSONResponse(completion())
        tokens = tokens_of(rendered(body, before_reply))
        places: list[dict[str, Any] | None] = [None]
        for place in range(1, len(tokens)):
            number = numbers.setdefault(tokens[place], 100 + len(numbers))
            known = {"logprob": log_probability(tokens, place), "rank": 3, "decoded_token": tokens[place]}
            places.append({str(number): known})
        return JSONResponse(completion("!", "length") | {"prompt_logprobs": places, "prompt_token_ids": None})

    return answer
