"""A real OpenAI-compatible server, `transformers serve`, and the same model asked without one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Empty, Queue
from typing import Any

import pytest
from stored_rows import row

from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.endpoint import EndpointConfig, open_endpoint
from connectomebench.models.prompt import messages
from connectomebench.models.vlm_loading import load_vlm

START_S = 120
RUNNING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")


@pytest.fixture(scope="module")
def served(tiny_vlm: Path) -> Iterator[str]:
    """The address of a server of the tiny model."""
    pytest.importorskip("fastapi", reason="transformers serve needs fastapi")
    command = [Path(sys.executable).with_name("transformers"), "serve", tiny_vlm]
    command += ["--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    process = subprocess.Popen(
        list(map(str, command)),
        env=os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: Queue[str] = Queue()
    # read to the end, or the server stops once the pipe is full
    threading.Thread(target=lambda: [lines.put(line) for line in process.stderr or ()], daemon=True).start()
    told = []
    try:
        while not (found := RUNNING.search(told[-1] if told else "")):
            told.append(lines.get(timeout=START_S))
        yield f"{found[1]}/v1"
    except Empty:
        pytest.fail(f"transformers serve did not start: {told[-5:]}")
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def test_a_served_model_replies_as_it_does_here(served: str, tiny_vlm: Path) -> None:
    rows = [row(number, "yes") for number in range(3)]
    talks = [Conversation(messages(one), one["images"]) for one in rows]
    # the folder's own settings for sampling hold a penalty on repetition, which this field of the server overrides
    more: dict[str, Any] = {"frequency_penalty": 0.0}
    endpoint = open_endpoint(EndpointConfig(served, str(tiny_vlm), "NO_KEY", extra_body=more))
    assert endpoint.name == tiny_vlm.name and str(tiny_vlm.parent) not in endpoint.revision
    sampling = Sampling(max_new_tokens=24)
    here = load_vlm(tiny_vlm, batch_size=1, device="cpu").reply(talks, sampling)
    there = endpoint.reply(talks, sampling)
    # the server takes white space off both ends, and shows special tokens, which random weights may well write
    shown = [replace(reply, text=re.sub(r"<\|[a-z_]+\|>", "", reply.text).strip()) for reply in there]
    assert shown == [replace(reply, text=reply.text.strip()) for reply in here]
    assert len({reply.text for reply in there}) > 1
