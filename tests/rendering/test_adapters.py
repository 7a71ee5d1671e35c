"""Which engine draws on a machine with any graphics driver, or none, and that opening a driver breaks nothing else."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.rendering import adapters
from connectomebench.rendering.adapters import Adapter, find_adapter, octarine_problem
from connectomebench.rendering.engines import choose_engine

SOFTWARE = Adapter("llvmpipe", "OpenGL", is_hardware=False)
HARDWARE = Adapter("Radeon", "OpenGL", is_hardware=True)
MISSING_FEATURE = "Unsupported features were requested: FLOAT32_FILTERABLE"


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", code], capture_output=True, text=True, timeout=120
    )


def test_names_of_engines_are_checked() -> None:
    assert choose_engine("cpu").name == "cpu"
    with pytest.raises(ConnectomeBenchError, match="unknown engine"):
        choose_engine("opengl")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("adapter", "refusal", "reason"),
    [
        (None, None, "wgpu finds no graphics adapter"),
        (SOFTWARE, None, "the graphics adapter is llvmpipe by OpenGL, software"),
        (SOFTWARE, MISSING_FEATURE, "the graphics adapter is llvmpipe by OpenGL, software"),
        (
            HARDWARE,
            MISSING_FEATURE,
            f"octarine cannot draw on the graphics adapter Radeon by OpenGL ({MISSING_FEATURE})",
        ),
    ],
)
def test_auto_draws_on_the_cpu_and_says_why_in_one_line(
    adapter: Adapter | None,
    refusal: str | None,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: object())
    monkeypatch.setattr(adapters, "find_adapter", lambda: adapter)
    monkeypatch.setattr(adapters, "_refusal", lambda: refusal)
    with caplog.at_level(logging.INFO):
        assert choose_engine("auto").name == "cpu"
    assert caplog.messages == [f"drawing on the CPU: {reason}"]


@pytest.mark.parametrize("adapter", [SOFTWARE, HARDWARE])
def test_an_adapter_without_the_features_is_one_error(adapter: Adapter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: object())
    monkeypatch.setattr(adapters, "find_adapter", lambda: adapter)
    monkeypatch.setattr(adapters, "_refusal", lambda: MISSING_FEATURE)
    with pytest.raises(ConnectomeBenchError, match=r"FLOAT32_FILTERABLE.*Vulkan driver.*views\.engine"):
        choose_engine("octarine")


def test_without_octarine_auto_is_silent_and_its_name_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    with caplog.at_level(logging.INFO):
        assert choose_engine("auto").name == "cpu"
    assert not caplog.messages
    with pytest.raises(ConnectomeBenchError, match=r"pip install 'connectomebench\[octarine\]'"):
        choose_engine("octarine")


def test_a_driver_is_asked_for_all_that_octarine_needs() -> None:
    """A limit that no driver offers stands in for the feature that this machine's driver may have."""
    pytest.importorskip("octarine", reason="octarine3d is not installed")
    code = """
import wgpu
wgpu.preconfigure_default_device("test", required_limits={"max-texture-dimension-2d": 2**31})
from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.rendering.engines import choose_engine
for _ in range(2):  # the second time as the first: octarine itself keeps a broken half after a failure
    try:
        choose_engine("octarine")
    except ConnectomeBenchError as error:
        print(error)
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first == second
    assert ("octarine cannot draw on" if find_adapter() else "no graphics adapter") in first


def test_torch_can_be_loaded_after_drivers_were_opened() -> None:
    """Mesa's software drivers and triton each bring an LLVM, and one order of loading them ends the process."""
    pytest.importorskip("triton", reason="triton is not installed: torch has it on Linux alone")
    code = """
from contextlib import suppress
from connectomebench.rendering.adapters import find_adapter, octarine_problem, prepare_drivers
prepare_drivers()
import moderngl
with suppress(Exception):  # no EGL
    moderngl.create_context(standalone=True, backend="egl")
octarine_problem()
print(find_adapter())
import torch, triton
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    if done.stdout.strip() == "None":
        pytest.skip("there is no graphics driver to open")


def test_octarine_is_taken_by_name_where_it_can_draw() -> None:
    problem = octarine_problem()
    if problem is None:
        assert choose_engine("octarine").name == "octarine"
    else:
        with pytest.raises(ConnectomeBenchError) as caught:
            choose_engine("octarine")
        assert str(caught.value).startswith(problem) and "\n" not in str(caught.value)
