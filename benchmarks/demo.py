"""Time the demo with many visitors at once: its start, the page, a sample, an answer, the next sample.

Run:
    python benchmarks/demo.py --json
    python benchmarks/demo.py --folder quickstart-out --json

Without a folder the dataset is synthetic (pictures of 512 x 512) and lives in a temporary folder. The server is
`connectomebench demo` in a process of its own; visitors are tasks of this process, which speak the protocol of Gradio's
page and share the processor with the server. Each opens the page and its first sample, then answers and goes on as
often as asked, with a pause for thought. Times are those of one step as a visitor waits for it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from bench_arguments import parse_sizes
from load import SPECIES, TASK, make_rows

from connectomebench.dataset.manifest import add_species
from connectomebench.dataset.schema import write_partition


def write_folder(out: Path, rows: int) -> None:
    """Write a dataset with a test partition alone."""
    made = make_rows(rows)
    write_partition(out / TASK / SPECIES, TASK, "test", made, len(made), 1000)
    source = {"name": "synthetic", "simulated_errors": True, "simulated_em": True, "license": "cc0-1.0"}
    counts = {"test": {answer: sum(row["answer"] == answer for row in made) for answer in ("no", "yes")}}
    add_species(out / TASK, TASK, SPECIES, {"fingerprint": "synthetic", "counts": counts, "source": source})


def start(folder: Path) -> tuple[subprocess.Popen[str], str, httpx.Cookies, float]:
    """Start the demo; return the process, its address, its key as a cookie, and the seconds until it answers."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-u", "-m", "connectomebench", "demo", str(folder), "--port", str(port)]
    began = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:  # ends with the process
        if address := re.search(rf"http://\S+:{port}/\S*", line):
            with httpx.Client(follow_redirects=True, timeout=120) as client:
                client.get(address[0]).raise_for_status()  # the key becomes a cookie
                return process, f"http://127.0.0.1:{port}/", client.cookies, time.perf_counter() - began
    raise RuntimeError(f"the demo ended with status {process.wait()}")


def events(config: dict[str, Any]) -> dict[str, int]:
    """Return the numbers of the events that a visit needs, by what they are."""
    ids = {part["props"].get("elem_id"): part["id"] for part in config["components"]}
    targets = {tuple(target): one["id"] for one in config["dependencies"] for target in one["targets"]}
    load = next(number for (_, kind), number in targets.items() if kind == "load")
    return {"sample": load, "answer": targets[ids["cb-answer-0"], "click"], "next": targets[ids["cb-next"], "click"]}


async def call(client: httpx.AsyncClient, session: str, number: int) -> None:
    """Trigger an event and wait for what it answers."""
    body = {"data": [None], "fn_index": number, "session_hash": session, "event_data": None}
    (await client.post("gradio_api/queue/join", json=body)).raise_for_status()
    async with client.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
        async for line in stream.aiter_lines():
            if line.startswith("data:") and '"process_completed"' in line:
                if not json.loads(line[5:])["success"]:
                    raise RuntimeError(f"the demo refused: {line[:300]}")
                return


async def visit(
    client: httpx.AsyncClient, answers: int, pause_s: float, seed: int, times: dict[str, list[float]]
) -> None:
    """Be one visitor."""
    session, rng = uuid.uuid4().hex, np.random.default_rng(seed)

    async def timed(name: str, work: Any) -> Any:
        began = time.perf_counter()
        found = await work
        times[name].append(time.perf_counter() - began)
        return found

    await timed("page", client.get(""))
    numbers = events((await client.get("config")).json())
    await timed("sample", call(client, session, numbers["sample"]))
    for _ in range(answers):
        for name in ("answer", "next"):
            await asyncio.sleep(pause_s * rng.uniform(0.5, 1.5))
            await timed(name, call(client, session, numbers[name]))


async def measure(url: str, key: httpx.Cookies, visitors: int, answers: int, pause_s: float) -> dict[str, list[float]]:
    """Let all visitors come at once."""
    times: dict[str, list[float]] = defaultdict(list)
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, cookies=key, timeout=120, limits=limits) as client:
        await asyncio.gather(*(visit(client, answers, pause_s, i, times) for i in range(visitors)))
    return times


def main() -> None:
    """Write a folder if none is given, serve it, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="folder made by quickstart; a synthetic dataset by default")
    parser.add_argument("--rows", type=int, default=200, help="rows of the synthetic dataset")
    parser.add_argument("--visitors", type=int, default=50, help="visitors at once")
    parser.add_argument("--answers", type=int, default=4, help="samples that each of them answers")
    parser.add_argument("--pause_s", type=float, default=2.0, help="mean time for thought before each click")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parse_sizes(parser, rows=30, visitors=4, answers=1, pause_s=0.1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        if options.folder is None:
            write_folder(folder, options.rows)
        process, url, key, start_s = start(folder)
        try:
            times = asyncio.run(measure(url, key, options.visitors, options.answers, options.pause_s))
        finally:
            process.terminate()
            process.wait()
    found: dict[str, Any] = {
        "benchmark": "demo",
        "visitors": options.visitors,
        "answers": options.answers,
        "pause_s": options.pause_s,
        "data": "synthetic" if options.folder is None else "folder",
        "start_s": round(start_s, 2),
    }
    for name, taken in times.items():
        found[f"{name}_n"] = len(taken)
        found |= {f"{name}_p{share}_s": round(float(np.percentile(taken, share)), 3) for share in (50, 95)}
    print(json.dumps(found) if options.json else "\n".join(f"{key}: {value}" for key, value in found.items()))


if __name__ == "__main__":
    main()
