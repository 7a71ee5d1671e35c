"""Heads from the Hub that were made to harm: none is unpacked, made or asked before all of it is known."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.models.head_io import load_head, save_head
from connectomebench.models.heads import Head, HeadCandidate, fit_head
from connectomebench.models.skops_check import ALLOWED, check_skops

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(60, 4))
ANSWERS = np.array(["no", "yes"])[RANDOM.integers(0, 2, 60)]
GROUPS = [str(i) for i in range(60)]


def fitted(*steps: tuple[str, Any]) -> Head:
    return fit_head(FEATURES, ANSWERS, GROUPS, [HeadCandidate({}, Pipeline(list(steps)))], 2)


SCALE = ("scale", StandardScaler())
HEADS = {
    "logistic": (SCALE, ("head", LogisticRegression())),
    "mlp": (SCALE, ("head", MLPClassifier((4,), max_iter=3, random_state=0))),
    "forest": (("head", RandomForestClassifier(3, random_state=0)),),
}


@pytest.fixture(scope="module", params=list(HEADS))
def head(request: pytest.FixtureRequest) -> Head:
    return fitted(*HEADS[request.param])


@pytest.fixture(scope="module")
def forest() -> Head:
    return fitted(*HEADS["forest"])


def forge(
    folder: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None], packing: int = zipfile.ZIP_STORED
) -> Path:
    """Change the description and the arrays of a saved head, with a hash that fits."""
    with zipfile.ZipFile(folder / "head.skops") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop("schema.json"))
    change(schema, files)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive:
        for name, content in {**files, "schema.json": json.dumps(schema).encode()}.items():
            archive.writestr(name, content)
    return put(folder, stream.getvalue())


def put(folder: Path, content: bytes) -> Path:
    (folder / "head.skops").write_bytes(content)
    config = json.loads((folder / "config.json").read_text())
    config["head_sha256"] = hashlib.sha256(content).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def refused(folder: Path, words: str) -> None:
    with pytest.raises(ConnectomeBenchError, match=words) as caught:
        load_head(folder, "probe")
    assert "\n" not in str(caught.value)


def nodes_of(schema: Any, loader: str) -> list[dict[str, Any]]:
    found, waiting = [], [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
        elif isinstance(node, dict):
            waiting += node.values()
            if node.get("__loader__") == loader:
                found.append(node)
    return found


def test_our_own_heads_pass_and_answer_the_same(head: Head, tmp_path: Path) -> None:
    save_head(tmp_path, head, "probe", {})
    loaded, _ = load_head(tmp_path, "probe")
    np.testing.assert_array_equal(loaded.probabilities(FEATURES), head.probabilities(FEATURES))


@pytest.mark.parametrize(
    "steps",
    [
        (("scale", MinMaxScaler()), ("head", LogisticRegression())),
        (SCALE, ("head", DecisionTreeClassifier())),
        (SCALE, ("head", GaussianNB())),
    ],
)
def test_what_skops_trusts_is_not_enough(steps: Any, tmp_path: Path) -> None:
    pipeline = Pipeline(list(steps)).fit(FEATURES, (ANSWERS == "yes").astype(int))
    save_head(tmp_path, fitted(*HEADS["logistic"]), "probe", {})
    refused(put(tmp_path, skops.io.dumps(pipeline)), "types that are not allowed|is no head of this package")


def test_a_step_of_another_place_is_refused(tmp_path: Path, forest: Head) -> None:
    save_head(tmp_path, forest, "probe", {})
    for pipeline in (forest.pipeline[-1], Pipeline([("scale", forest.pipeline[-1]), ("head", "passthrough")])):
        refused(put(tmp_path, skops.io.dumps(pipeline)), "is no head of this package")


TREE_CHANGES: dict[str, Callable[[dict[str, Any], dict[str, Any], dict[str, bytes]], None]] = {
    # scikit-learn reads as many nodes as the number says, past the end of the array
    "more nodes than there are": lambda tree, state, _: state["node_count"].update(content="100000000"),
    "nodes below none": lambda tree, state, _: state["node_count"].update(content="-5"),
    "a count that is no number": lambda tree, state, _: state["node_count"].update(content='"7"'),
    "values of another tree": lambda tree, state, files: files.update(
        {state["values"]["file"]: npy(np.zeros((1, 1, 2)))}
    ),
    "nodes of another kind": lambda tree, state, files: files.update({state["nodes"]["file"]: npy(np.zeros(9))}),
    "two outputs": lambda tree, state, _: tree["__reduce__"]["args"]["content"][2].update(content="2"),
    "a state with more": lambda tree, state, _: state.update(more=state["max_depth"]),
}


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


@pytest.mark.parametrize("name", list(TREE_CHANGES))
def test_a_crafted_tree_is_refused_in_a_process_that_goes_on(name: str, forest: Head, tmp_path: Path) -> None:
    save_head(tmp_path, forest, "probe", {})

    def change(schema: dict[str, Any], files: dict[str, bytes]) -> None:
        tree = nodes_of(schema, "TreeNode")[0]
        state = tree["content"]["content"]
        state["node_count"]["__id__"] = 1  # a number that nothing else shares
        tree["__reduce__"]["args"]["content"][2]["__id__"] = 2
        TREE_CHANGES[name](tree, state, files)

    forge(tmp_path, change)
    refused(tmp_path, "damaged decision tree")


def test_one_id_for_two_things_is_refused(forest: Head, tmp_path: Path) -> None:
    """Skops takes the first of an id, so a sound number could stand where it is checked and another be used."""
    save_head(tmp_path, forest, "probe", {})

    def change(schema: dict[str, Any], _: dict[str, bytes]) -> None:
        first, second = nodes_of(schema, "TreeNode")[:2]
        one, other = (tree["content"]["content"]["node_count"] for tree in (first, second))
        one.update(content="5", __id__=1)
        other.update(content="100000000", __id__=1)

    forge(tmp_path, change)
    refused(tmp_path, "one id to two things|damaged decision tree")


def test_every_loader_and_type_is_on_the_list_or_refused(forest: Head, tmp_path: Path) -> None:
    save_head(tmp_path, forest, "probe", {})
    original = (tmp_path / "head.skops").read_bytes()
    for loader, module, name in (
        ("FunctionNode", "builtins", "eval"),
        ("MethodNode", "builtins", "method"),
        ("PartialNode", "functools", "partial"),
        ("ObjectNode", "os", "system"),
        ("OperatorFuncNode", "operator", "attrgetter"),
        ("TypeNode", "os", "system"),
        ("BytesNode", "builtins", "bytes"),
    ):
        assert (loader, f"{module}.{name}") not in ALLOWED
        put(tmp_path, original)

        def change(schema: dict[str, Any], _: dict[str, bytes], node: Any = (loader, module, name)) -> None:
            target = nodes_of(schema, "JsonNode")[0]
            target.update(__loader__=node[0], __module__=node[1], __class__=node[2], __id__=1)

        forge(tmp_path, change)
        refused(tmp_path, rf"types that are not allowed: {module}\.{name}")


def test_nothing_is_unpacked_before_its_size_is_known(forest: Head, tmp_path: Path) -> None:
    save_head(tmp_path, forest, "probe", {})
    original = (tmp_path / "head.skops").read_bytes()

    def many_zeros(_: dict[str, Any], files: dict[str, bytes]) -> None:
        files["zeros.npy"] = npy(np.zeros(4_000_000))

    forge(tmp_path, many_zeros, zipfile.ZIP_DEFLATED)
    assert (tmp_path / "head.skops").stat().st_size < 1_000_000
    refused(tmp_path, "is packed")

    def announce(_: dict[str, Any], files: dict[str, bytes]) -> None:
        name = next(name for name in files if name.endswith(".npy"))
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f8", "fortran_order": False, "shape": (10**11,)})
        files[name] = header.getvalue()

    put(tmp_path, original)
    forge(tmp_path, announce)
    refused(tmp_path, "not as large as its shape says")


def test_deep_and_odd_descriptions_are_one_line(forest: Head, tmp_path: Path) -> None:
    save_head(tmp_path, forest, "probe", {})
    original, config = (tmp_path / "head.skops").read_bytes(), json.loads((tmp_path / "config.json").read_text())
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("schema.json", "[" * 200_000 + "]" * 200_000)
    refused(put(tmp_path, stream.getvalue()), "nested too deeply|is damaged|sound skops")
    refused(put(tmp_path, b"PK"), "no sound skops file|is damaged")
    put(tmp_path, original)
    for text in ("[" * 100_000, "[]", "null", '"x"'):
        (tmp_path / "config.json").write_text(text)
        refused(tmp_path, "is not JSON|holds no settings")
    for key, value in (("classes", ["no"]), ("scale", "x"), ("bias", None), ("prior", [1, 2]), ("cross_validation", 3)):
        (tmp_path / "config.json").write_text(json.dumps({**config, key: value}))
        refused(tmp_path, "sound calibration|one score for each answer")


def test_a_head_that_cannot_answer_is_refused(tmp_path: Path) -> None:
    head = fitted(*HEADS["logistic"])
    broken = copy.deepcopy(head)
    broken.pipeline[-1].coef_ = np.zeros((1, 9))
    save_head(tmp_path, broken, "probe", {})
    refused(tmp_path, "gives no answer")


def test_the_check_itself_takes_bytes() -> None:
    check_skops(skops.io.dumps(fitted(*HEADS["mlp"]).pipeline))
    with pytest.raises(ValueError, match="sound skops file"):
        check_skops(b"")
