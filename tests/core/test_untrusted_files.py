"""JSON and YAML of others: however deep or odd, one line and no traceback."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import connectomebench
from connectomebench.build.config import load_config
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.manifest import read_manifest
from connectomebench.evaluation.responses.lexicon import read_lexicon
from connectomebench.models.model_files import read_json
from connectomebench.models.model_record import read_record
from connectomebench.models.registry import open_model

SOURCE = Path(str(connectomebench.__file__)).parent
PARSERS = ("json.loads", "json.load", "yaml.safe_load")
JSON = {
    "deep objects": '{"a":' * 3000 + "1" + "}" * 3000,
    "deep lists": '{"species": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a list": "[]",
    "null": "null",
    "a number": "1",
    "bytes": "\x00\x01",
    "a number of 5000 digits": '{"task": ' + "9" * 5000 + "}",
    "nothing": "",
}
YAML = JSON | {
    "deep flow": "[" * 5000 + "]" * 5000,
    "deep blocks": "- " * 5000 + "1",
    "deep keys": "? " * 3000,
    "an object": "!!python/object/apply:os.system [x]",
    "a loop": "a: &x [*x]",
    "a tab": "\t",
    "a date that is none": "a: 2026-13-45",
    "another version": "%YAML 9.9\n---\na: 1",
}
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "config.json": ("config.json", read_json),
    "connectomebench.json": ("connectomebench.json", lambda path: read_record(path.parent)),
    "manifest.json": ("manifest.json", lambda path: read_manifest(path.parent)),
    "config of a model": ("config.json", lambda path: open_model(str(path.parent))),
    "config of an adapter": ("adapter_config.json", lambda path: open_model(str(path.parent))),
    "build": ("build.yaml", load_config),
    "lexicon": ("cues.yaml", read_lexicon),
}


@pytest.mark.parametrize("reader", list(READERS))
def test_odd_files_are_told_in_one_line(reader: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    for what, content in (YAML if name.endswith("yaml") else JSON).items():
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        with pytest.raises(ConnectomeBenchError) as caught:
            read(path)
        assert "\n" not in str(caught.value), what
        assert len(str(caught.value)) < 700 + len(str(path)), what


def parsing_calls() -> Iterator[tuple[str, ast.Call, set[str]]]:
    """Every call that parses JSON or YAML: where it is, the call, and the errors that are caught around it."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if not any(parser in text for parser in PARSERS):
            continue
        tree = ast.parse(text)
        parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and ast.unparse(node.func) in PARSERS):
                continue
            caught: set[str] = set()
            above: ast.AST | None = node
            while above is not None:
                below, above = above, parents.get(above)
                if isinstance(above, ast.Try) and below in above.body:
                    for handler in above.handlers:
                        kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
                        caught |= {ast.unparse(kind) for kind in kinds if kind is not None}
            yield f"{path.relative_to(SOURCE)}:{node.lineno}", node, caught


OWN = {
    # of a process of this package, or of a file that this package has just read or written itself
    "doctor/subprocess_checks.py",
    "execution/worker_processes.py",
    "models/view_classifier.py",
    "models/checkpoints.py",
    "commands/human_eval.py",
    "models/skops_check.py",
    "build/pipeline.py",
    "dataset/public/load_public.py",
    "economics/change_logs.py",
}


def test_whatever_parses_a_file_of_others_expects_deep_nesting() -> None:
    unprepared = []
    for where, call, caught in parsing_calls():
        argument = call.args[0]
        written = ("dumps", "dump", "to_json_string")
        written_here = isinstance(argument, ast.Call) and ast.unparse(argument.func).endswith(written)
        if written_here or where.split(":")[0] in OWN or where.startswith(("sources/", "hub/", "demo/")):
            continue
        if not caught & {"RecursionError", "Exception"}:
            unprepared.append(where)
    assert unprepared == []
