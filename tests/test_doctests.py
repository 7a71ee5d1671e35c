"""The examples in the docstrings of the public API run as they stand, beside an output of the quickstart."""

from __future__ import annotations

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import connectomebench

PUBLIC = sorted(name for name in connectomebench.__all__ if name != "__version__")


@pytest.fixture(scope="module")
def beside_quickstart(built: Path, small_config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``quickstart-out`` and ``examples``, as a clone has them after ``make quickstart``."""
    from connectomebench.dataset.loading import load_rows
    from connectomebench.evaluation.evaluator import EvalData, evaluate
    from connectomebench.evaluation.model_spec import ModelSpec
    from connectomebench.models.registry import save_head_model
    from connectomebench.models.trivial_baseline import train_trivial

    folder = tmp_path_factory.mktemp("doctests")
    (folder / "examples").mkdir()
    (folder / "examples" / "quickstart.yaml").write_text(small_config.read_text())
    out = folder / "quickstart-out"
    out.mkdir()
    for task in built.iterdir():
        if (task / "manifest.json").is_file():
            (out / task.name).symlink_to(task)
    dataset = out / "merge_action"
    train = load_rows(str(dataset), "fly", "train")
    model = out / "models" / "trivial" / "merge_action" / "fly"
    save_head_model(train_trivial(train.dataset, progress=False), model, train.data)
    evaluate(ModelSpec(str(model)), EvalData(str(dataset), "fly"), out / "results")
    return folder


def test_the_public_names_are_there():
    for name in PUBLIC:
        value = getattr(connectomebench, name)
        assert value.__name__ == name
        assert value.__module__.startswith("connectomebench.")
    assert set(PUBLIC) <= set(dir(connectomebench))
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = connectomebench.no_such_name


def test_every_package_keeps_its_name():
    # a function named like a package would hide it, or be hidden by it, whichever is imported last
    root = Path(connectomebench.__file__).parent
    modules = {path.stem for path in root.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert not modules & set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_examples_run(name: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    value = getattr(connectomebench, name)
    found = doctest.DocTestFinder(recurse=False).find(value, name, importlib.import_module(value.__module__), globs={})
    examples = [example.source for test in found for example in test.examples]
    assert examples, f"{name} has no example; add one to its docstring in {inspect.getsourcefile(value)}"
    if any("quickstart" in source for source in examples):
        for entry in request.getfixturevalue("beside_quickstart").iterdir():
            (tmp_path / entry.name).symlink_to(entry)
    monkeypatch.chdir(tmp_path)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    report: list[str] = []
    for test in found:
        runner.run(test, out=report.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(report)
