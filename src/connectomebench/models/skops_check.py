"""Check a skops file before anything in it is made: its sizes, every type that it names, and the arrays of trees.

skops trusts all of scikit-learn, and looks at types alone: a decision tree that announces more nodes than it has ends
the process. Here a file may hold the few types of our heads, each read by its own loader, and nothing else.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import numpy as np

from connectomebench.core.npy_header import npy_header

_SCHEMA = "schema.json"
_MOST_ENTRIES = 100_000
_SCHEMA_BYTES = 200_000_000

TREE = "sklearn.tree._tree.Tree"
OPTIMIZER = "sklearn.neural_network._stochastic_optimizers.AdamOptimizer"
_OBJECTS = (
    "sklearn.pipeline.Pipeline",
    "sklearn.preprocessing._data.StandardScaler",
    "sklearn.preprocessing._label.LabelBinarizer",
    "sklearn.linear_model._logistic.LogisticRegression",
    "sklearn.neural_network._multilayer_perceptron.MLPClassifier",
    "sklearn.ensemble._forest.RandomForestClassifier",
    "sklearn.tree._classes.DecisionTreeClassifier",
    OPTIMIZER,
)
_SCALARS = ("numpy.float32", "numpy.float64", "numpy.int32", "numpy.int64", "numpy.bool", "numpy.bool_")
ALLOWED = frozenset(
    {
        ("DictNode", "builtins.dict"),
        ("JsonNode", "builtins.str"),
        ("ListNode", "builtins.list"),
        ("TupleNode", "builtins.tuple"),
        ("TypeNode", "builtins.str"),
        ("TypeNode", "builtins.int"),
        ("NdArrayNode", "numpy.ndarray"),
        ("RandomStateNode", "numpy.random.mtrand.RandomState"),
        ("TreeNode", TREE),
        *(("ObjectNode", name) for name in _OBJECTS),
        *(("NdArrayNode", name) for name in _SCALARS),
    }
)
"""Loader of skops and type, for everything that a head is made of."""
TRUSTED = (OPTIMIZER, TREE)
"""What skops does not trust by itself."""
_NODE = [
    ("left_child", "<i8"),
    ("right_child", "<i8"),
    ("feature", "<i8"),
    ("threshold", "<f8"),
    ("impurity", "<f8"),
    ("n_node_samples", "<i8"),
    ("weighted_n_node_samples", "<f8"),
    ("missing_go_to_left", "u1"),
]

_Array = tuple[tuple[int, ...], "np.dtype[Any]"]


def check_skops(data: bytes) -> None:
    """Check a skops file.

    Parameters
    ----------
    data
        The file.

    Raises
    ------
    ValueError
        With the reason why it must not be loaded.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            arrays = _check_entries(archive, len(data))
            schema = json.loads(archive.read(_SCHEMA))
        _check_nodes(schema, arrays)
    except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, EOFError, NotImplementedError, OSError) as error:
        raise ValueError("is no sound skops file") from error
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _check_entries(archive: zipfile.ZipFile, size: int) -> dict[str, _Array]:
    """Check the sizes of all entries before one is read; return shape and type of each array."""
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES or len({entry.filename for entry in entries}) != len(entries):
        raise ValueError("has too many entries, or two of one name")
    # as skops writes it: nothing is packed, so that the file is as large as what it holds
    if any(entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size for entry in entries):
        raise ValueError("is packed, which skops does not do by itself")
    if sum(entry.file_size for entry in entries) > size or archive.getinfo(_SCHEMA).file_size > _SCHEMA_BYTES:
        raise ValueError("announces more bytes than it has")
    arrays: dict[str, _Array] = {}
    for entry in entries:
        if entry.filename != _SCHEMA:
            with archive.open(entry) as stream:
                shape, kind, announced = npy_header(stream)
            if kind.hasobject or announced != entry.file_size or min(shape, default=0) < 0:
                raise ValueError("holds an array that is not as large as its shape says")
            arrays[entry.filename] = shape, kind
    return arrays


def _check_nodes(schema: Any, arrays: Mapping[str, _Array]) -> None:
    """Check every node of the description; skops follows them in no other way than through these."""
    seen: dict[Any, Any] = {}
    foreign: set[str] = set()
    waiting = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, list):
            waiting += node
            continue
        if not isinstance(node, dict):
            continue
        waiting += node.values()
        if "__loader__" in node:
            name = f"{node['__module__']}.{node['__class__']}"
            if (node["__loader__"], name) not in ALLOWED:
                foreign.add(name)
            # skops takes the first node of an id for all others
            elif not _same(seen.setdefault(node.get("__id__") or id(node), node), node):
                raise ValueError("gives one id to two things")
            elif node["__loader__"] == "NdArrayNode" and node["type"] == "numpy" and node["file"] not in arrays:
                raise ValueError("names an array that it does not hold")
            elif node["__loader__"] == "TreeNode":
                _check_tree(node, arrays)
    if foreign:
        raise ValueError(f"holds types that are not allowed: {', '.join(sorted(foreign))}"[:300])


def _same(one: Any, other: Any) -> bool:
    """Return whether two nodes describe the same, whatever their ids: skops numbers the parts of a thing each time."""
    if one is other:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        names = one.keys() - {"__id__"}
        return names == other.keys() - {"__id__"} and all(_same(one[name], other[name]) for name in names)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return type(one) is type(other) and one == other


def _check_tree(node: dict[str, Any], arrays: Mapping[str, _Array]) -> None:
    """Check that a tree has as many nodes as it says, of the kind that scikit-learn reads without looking."""
    features, classes, outputs = node["__reduce__"]["args"]["content"]
    state = node["content"]["content"]
    count = _number(state["node_count"])
    nodes, kind = arrays[state["nodes"]["file"]]
    values, value_kind = arrays[state["values"]["file"]]
    sound = (
        set(state) == {"max_depth", "node_count", "nodes", "values"}
        and count >= 1
        and nodes == (count,)
        and _fields(kind) == _NODE
        and len(values) == 3
        and values[:2] == (count, 1)
        and value_kind == np.dtype("<f8")
        and arrays[classes["file"]] == ((1,), np.dtype("<i8"))
        and _number(outputs) == 1
        and _number(features) >= 1
        and _number(state["max_depth"]) >= 0
    )
    if not sound:
        raise ValueError("holds a damaged decision tree")


def _fields(kind: np.dtype[Any]) -> list[tuple[str, str]]:
    """Return names and types of a record; numpy writes those of one byte with or without an order."""
    return [(name, kind[name].str.lstrip("|")) for name in kind.names or ()]


def _number(node: dict[str, Any]) -> int:
    value = json.loads(node["content"])
    if node["__loader__"] != "JsonNode" or isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("holds a damaged decision tree")
    return value
