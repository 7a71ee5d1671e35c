"""Shared by all tests: nothing leaves the machine, and small datasets that are built once."""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_EVALUATE_OFFLINE", "1")
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
if "PYTEST_XDIST_WORKER" in os.environ:  # processes that test side by side would wait for each other's threads
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# folders whose fixtures and imports take long: one process takes all tests of such folders, those of the longest first;
# the last ones all need Gradio
TOGETHER = (("sources/cave",), ("hub",), ("finetuning",), ("demo", "human_eval", "review", "eval"))


def together(nodeid: str) -> tuple[int, str]:
    """Rank and name of the tests that one process takes with this one: those of folders, or those of its file."""
    path = nodeid.split("::", 1)[0].removeprefix("tests/")
    for rank, folders in enumerate(TOGETHER):
        if path.startswith(tuple(f"{folder}/" for folder in folders)):
            return rank, folders[0]
    return len(TOGETHER), path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these folders first, then files with few tests: slow ones are among them, and no process waits at the end."""
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (together(item.nodeid)[0], tests[item.path], item.path))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_collection() -> Generator[None, object, object]:
    """Search for no garbage meanwhile: imports make little of it, and 14 of 35 processor seconds went into looking."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


# a search for garbage looks at all that lives, and each training of transformers.Trainer begins with one: what imports
# have made, most of it, is looked at once and not in each of hundreds of searches
_FROZEN = {"modules": 0}
_MANY_MODULES = 200


_COLLECTED = pytest.StashKey[frozenset[str]]()


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Take what the collected files have imported out of all later searches for garbage."""
    gc.freeze()
    _FROZEN["modules"] = len(sys.modules)
    session.config.stash[_COLLECTED] = frozenset(sys.modules)


@pytest.fixture(scope="session")
def collected_modules(pytestconfig: pytest.Config) -> frozenset[str]:
    """Names of the modules that there were before the first test."""
    return pytestconfig.stash[_COLLECTED]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """The same for what tests have imported since."""
    if len(sys.modules) > _FROZEN["modules"] + _MANY_MODULES:
        _freeze_imports()


def pytest_unconfigure() -> None:
    """Give all back: libraries in C++ report what is not freed at the end as leaked."""
    gc.unfreeze()


def _freeze_imports() -> None:
    gc.collect()
    gc.freeze()
    _FROZEN["modules"] = len(sys.modules)


@pytest.hookimpl(tryfirst=True, optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole files and folders, so that what they share is made once.

    Marks of pytest-xdist do not serve: version 3.8 writes groups where pytest 9.2 no longer looks for them.
    """
    if config.getvalue("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class Together(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return together(nodeid)[1]

    return Together(config, log)


SMALL_CONFIG = """\
species: fly
source:
  morphology:
    rules: {cut_spacing_nm: 12000, fused_fraction: 0.25}
tasks: [merge_action, endpoint_error_identification_with_em, merge_error_identification, split_action]
sites: {extent_nm: [2200, 3000], min_segment_voxels: 20000}
candidates: {radius_nm: 400, merge_radius_nm: 800}
proposals: {reach_nm: 8000, wrong_kept: 2}
controls: {pool_per_case: 2, max_cases: 15}
partition: {cube_nm: 20000, test_fraction: 0.3}
views: {image_px: 64, em_px: 64, engine: cpu}
"""

SHORT_CONFIG = """\
species: fly
source:
  morphology:
    path: neurons
    unit_nm: 1000
    rules: {cut_spacing_nm: 8000, min_fragment_nm: 1500, fused_fraction: 0.1}
tasks: [merge_action, endpoint_error_identification_with_em]
sites: {extent_nm: [2200, 3000], min_segment_voxels: 1000}
candidates: {radius_nm: 400, merge_radius_nm: 800}
controls: {pool_per_case: 2, max_cases: 15}
partition: {cube_nm: 5000, test_fraction: 0.3}
views: {image_px: 64, em_px: 64, engine: cpu}
"""


@pytest.fixture(scope="session")
def small_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of all four tasks from the embedded neurons, small enough for a test."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(SMALL_CONFIG)
    return path


@pytest.fixture(scope="session")
def short_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of two tasks from neurites that lie beside it: for builds that are broken off or made again."""
    from written_neurons import write_neurons

    folder = tmp_path_factory.mktemp("config")
    write_neurons(folder / "neurons")
    (folder / "short.yaml").write_text(SHORT_CONFIG)
    return folder / "short.yaml"


@pytest.fixture(scope="session")
def built(small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the small build, made without interruption."""
    return _build(small_config, tmp_path_factory, "built")


@pytest.fixture(scope="session")
def built_short(short_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the short build, made without interruption."""
    return _build(short_config, tmp_path_factory, "built_short")


@contextmanager
def once_for_all(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[Path]:
    """Yield a folder that all processes of a run of tests share; those that come later wait for the first."""
    here = tmp_path_factory.getbasetemp()
    folder = (here.parent if "PYTEST_XDIST_WORKER" in os.environ else here) / name
    folder.mkdir(exist_ok=True)
    with FileLock(folder / "lock"):
        yield folder


def _build(config: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """Build once for all processes that test; a second call finds all done."""
    from connectomebench.build.config import load_config
    from connectomebench.build.pipeline import build_datasets

    with once_for_all(tmp_path_factory, name) as folder:
        build_datasets(load_config(config), folder / "out", base=config.parent)
    return folder / "out"


@pytest.fixture(scope="session")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Qwen3-VL, tiny and untrained."""
    from tiny_qwen3_vl import make_tiny_qwen3_vl

    return make_tiny_qwen3_vl(tmp_path_factory.mktemp("tiny-vlm") / "tiny-vl")
