"""A real OpenAI-compatible server, `transformers serve`, and the same model asked without one."""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from forked import forked
from stored_rows import row

from connectomebench.models.chat import Conversation, Sampling
from connectomebench.models.endpoint import EndpointConfig, open_endpoint
from connectomebench.models.prompt import messages
from connectomebench.models.vlm_loading import load_vlm

START_S = 120
RUNNING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")


def serve(folder: Path) -> None:
    """Run `transformers serve` in this process, which has imported already what it needs."""
    import torch
    from transformers.cli.transformers import main

    os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    sys.argv = ["transformers", "serve", str(folder), "--host", "127.0.0.1", "--port", "0", "--device", "cpu"]
    main()


@pytest.fixture(scope="module")
def served(tiny_vlm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of the tiny model."""
    pytest.importorskip("fastapi", reason="transformers serve needs fastapi")
    import torch  # noqa: F401
    import transformers  # noqa: F401

    log = tmp_path_factory.mktemp("served") / "log"
    with forked(partial(serve, tiny_vlm), log) as process:
        deadline = time.monotonic() + START_S
        while not (found := RUNNING.search(log.read_text())):
            if not process.is_alive() or time.monotonic() > deadline:
                pytest.fail(f"transformers serve did not start: {log.read_text()[-2000:]}")
            time.sleep(0.05)
        yield f"{found[1]}/v1"


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
