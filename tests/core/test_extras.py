"""What is missing is named with the extra that brings it, and every extra is one of the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.extras import EXTRA_OF, extras_named, install_hint, missing_extra, require_modules

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DISTRIBUTIONS = {
    "cc3d": "connected-components-3d",
    "cloudvolume": "cloud-volume",
    "crackle": "crackle-codec",
    "octarine": "octarine3d",
    "pytorch_grad_cam": "grad-cam",
}


def brought_by(extra: str) -> set[str]:
    """Distributions that an extra installs, those of extras that it names included."""
    found: set[str] = set()
    for wanted in PROJECT["optional-dependencies"][extra]:
        inner = re.fullmatch(r"connectomebench\[(.*)\]", wanted)
        if inner:
            found |= {name for one in inner[1].split(",") for name in brought_by(one.strip())}
        else:
            found.add(re.split(r"[<>=!~\[ ]", wanted)[0])
    return found


@pytest.mark.parametrize("module", EXTRA_OF)
def test_the_extra_brings_the_module_and_the_core_does_not(module: str) -> None:
    distribution = DISTRIBUTIONS.get(module, module)
    assert distribution in brought_by(EXTRA_OF[module])
    assert distribution not in {re.split(r"[<>=!~\[ ]", wanted)[0] for wanted in PROJECT["dependencies"]}


def test_a_missing_package_is_named_with_its_extra() -> None:
    with (
        pytest.raises(ConnectomeBenchError, match=r"needs torch, .*connectomebench\[models\]") as caught,
        extras_named(),
    ):
        raise ModuleNotFoundError("No module named 'torch.nn'", name="torch.nn")
    assert install_hint("models") in str(caught.value)
    # transformers without torch
    assert missing_extra(ImportError("AutoModel requires the PyTorch library but it was not found")) is not None


def test_other_missing_packages_are_no_extra() -> None:
    assert missing_extra(ModuleNotFoundError("No module named 'numpi'", name="numpi")) is None
    assert missing_extra(ImportError("libGL.so.1: cannot open", name="gradio")) is None
    with pytest.raises(ModuleNotFoundError), extras_named():
        raise ModuleNotFoundError("No module named 'numpi'", name="numpi")


def test_long_work_asks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    require_modules("zarr")
    monkeypatch.setitem(__import__("sys").modules, "zarr", None)
    with pytest.raises(ConnectomeBenchError, match=r"needs zarr, .*connectomebench\[arrays\]"):
        require_modules("zarr")
