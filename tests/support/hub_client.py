"""Real clients of the Hub in a process of their own, since HF_ENDPOINT is read when they are imported.

One process answers many calls: a JSON object a line on stdin, one on stdout.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# who runs the process; a name that no text of a dataset holds by chance
USER = "mcurie7"


@dataclass(frozen=True)
class Done:
    """What a command answered."""

    status: int
    out: str
    err: str


class HubClient:
    """The process; ``environment`` gives its addresses and folders, ``first`` is code that it runs before all else."""

    def __init__(self, environment: dict[str, str], first: str = "") -> None:
        self.environment = environment
        code = f"{first}\nimport runpy\nrunpy.run_path({__file__!r}, run_name='__main__')"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=120)

    def _call(self, call: str, env: dict[str, str], **arguments: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps({"call": call, "env": env, "arguments": arguments}) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise AssertionError(answer["error"])
        return answer["value"]

    def publish(self, *words: str | Path, token: str | None, **env: str) -> Done:
        """Run the command; without a token nobody is logged in."""
        env = env | ({"HF_TOKEN": token} if token else {})
        return self.command("publish", *words, **env)

    def evaluate(self, *words: str | Path) -> Done:
        """Run the command, without a login."""
        return self.command("evaluate", *words)

    def command(self, *words: str | Path, cwd: str | Path | None = None, **env: str) -> Done:
        """Run any command, in a folder of its own where one is given."""
        return Done(**self._call("command", env, words=[str(word) for word in words], cwd=cwd and str(cwd)))

    def load(self, repo: str, config: str, **options: Any) -> dict[str, Any]:
        """``load_dataset`` without a login; see :func:`load`."""
        return self._call("load", {}, repo=repo, config=config, **options)

    def metric(self, name: str, **columns: Any) -> dict[str, float]:
        """``evaluate.load(name).compute(...)`` without a login."""
        return self._call("metric", {}, name=name, columns=columns)

    def adapted(self, base: str, adapter: str, ids: list[int]) -> list[float]:
        """What PEFT alone makes of an adapter; see :func:`adapted`."""
        return self._call("adapted", {}, base=base, adapter=adapter, ids=ids)

    def space(self, **env: str) -> str:
        """Fetch what a Space shows, without a login; the folder."""
        return self._call("space", env)

    def whole_way(self, kind: str, repo: str, token: str) -> dict[str, Any]:
        """What huggingface_hub does with one repository; see :func:`whole_way`."""
        return self._call("whole_way", {"HF_TOKEN": token}, kind=kind, repo=repo)


def command(words: list[str], cwd: str | None) -> dict[str, Any]:
    from connectomebench.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), contextlib.chdir(cwd or os.curdir):
        try:
            status = main(words)
        except SystemExit as end:
            status = int(end.code or 0)
    return {"status": status, "out": out.getvalue(), "err": err.getvalue()}


def load(repo: str, config: str, **options: Any) -> dict[str, Any]:
    """Load a config; for each partition the columns, the ids, and the sizes of the pictures of the first row."""
    from datasets import load_dataset

    data: Any = load_dataset(repo, config, **options)
    found = {}
    for name, part in data.items():
        rows = list(part)
        found[name] = {
            "columns": part.column_names,
            "ids": [row.get("sample_id") for row in rows],
            "species": sorted({row.get("species") for row in rows}),
            "sizes": [list(image.size) for image in rows[0].get("images", [])],
        }
    return found


def metric(name: str, columns: dict[str, Any]) -> dict[str, float]:
    import_evaluate()
    import evaluate

    return {key: float(value) for key, value in evaluate.load(name).compute(**columns).items()}


def import_evaluate() -> None:
    """Import evaluate as where transformers is not installed: its metrics need none of it, and it imports all of it."""
    before = sys.modules.get("transformers")
    sys.modules["transformers"] = None  # pyright: ignore[reportArgumentType]
    try:
        import evaluate  # noqa: F401
    finally:
        del sys.modules["transformers"]
        if before is not None:
            sys.modules["transformers"] = before


def adapted(base: str, adapter: str, ids: list[int]) -> list[float]:
    """Load base and adapter with transformers and PEFT alone; the scores of the token after ``ids``."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForImageTextToText

    model = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(base), adapter)
    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids])).logits[0, -1].float().tolist()


def space() -> str:
    """Fetch the data of a Space."""
    from connectomebench.demo.demo_data import space_folder

    return str(space_folder())


def whole_way(kind: str, repo: str) -> dict[str, Any]:
    """Make a repository, commit, fetch, branch, tag, delete: all that the server claims to speak."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, hf_hub_download

    api = HfApi()
    options: dict[str, Any] = {"repo_type": kind}
    api.create_repo(repo, space_sdk="gradio" if kind == "space" else None, **options)
    added = [CommitOperationAdd(path, content) for path, content in {"a/b.txt": b"text", "c.bin": bytes(99)}.items()]
    first = api.create_commit(repo, added, commit_message="first", **options)
    api.create_branch(repo, branch="side", **options)
    api.create_tag(repo, tag="t1", **options)
    gone = [CommitOperationDelete("a/"), CommitOperationAdd("d.txt", b"d")]
    api.create_commit(repo, gone, commit_message="second", **options)
    fetched = {
        path: Path(hf_hub_download(repo, path, revision="t1", **options)).read_bytes().hex()
        for path in ("a/b.txt", "c.bin")
    }
    found = {
        "first": first.oid,
        "tagged": api.repo_info(repo, revision="t1", **options).sha,
        "fetched": fetched,
        "main": sorted(api.list_repo_files(repo, **options)),
        "side": sorted(e.path for e in api.list_repo_tree(repo, recursive=True, revision="side", **options)),
        "infos": [[i.path, i.size] for i in api.get_paths_info(repo, ["c.bin", "nothing"], **options)],
        "titles": [c.title for c in api.list_repo_commits(repo, **options)],
    }
    api.delete_branch(repo, branch="side", **options)
    api.delete_tag(repo, tag="t1", **options)
    refs = api.list_repo_refs(repo, **options)
    return found | {"refs": [[b.name for b in refs.branches], [t.name for t in refs.tags]]}


_CALLS = {
    "command": command,
    "load": load,
    "metric": metric,
    "adapted": adapted,
    "space": space,
    "whole_way": whole_way,
}


def _stop_when_orphaned() -> None:
    while os.getppid() != 1:
        time.sleep(1)
    os._exit(1)


def _wait_less() -> None:
    """Ask again at once where huggingface_hub waits up to 23 s in all before it gives up."""
    from types import SimpleNamespace

    from huggingface_hub.utils import _http

    _http.time = SimpleNamespace(**vars(time) | {"sleep": lambda s: time.sleep(s / 100)})


def _serve() -> None:
    sys.path.insert(0, str(Path(__file__).parent))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    threading.Thread(target=_stop_when_orphaned, daemon=True).start()
    _wait_less()
    base = dict(os.environ)
    for line in sys.stdin:
        request = json.loads(line)
        os.environ.clear()
        os.environ.update(base | request["env"])
        try:
            answer = {"value": _CALLS[request["call"]](**request["arguments"])}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
    os._exit(0)  # to take down all that was imported takes seconds


if __name__ == "__main__":
    _serve()
