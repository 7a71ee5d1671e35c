"""The folder of the Space: complete, pinned, and what the package serves."""

from __future__ import annotations

import ast
from importlib.metadata import version

from connectomebench.core.resources import resource_path
from connectomebench.core.version import __version__
from connectomebench.demo.demo_data import TASKS
from connectomebench.demo.texts import INTRODUCTION
from connectomebench.hub.space_plan import read_settings

FOLDER = resource_path("spaces/demo")


def test_the_settings_name_what_is_there() -> None:
    settings = read_settings(FOLDER)
    assert settings is not None and settings["sdk"] == "gradio"
    assert settings["sdk_version"] == version("gradio")
    assert settings["datasets"] == [f"connectomebench/{task}" for task in TASKS]
    assert len(str(settings["short_description"])) <= 60  # more, and the Hub refuses the folder
    assert (FOLDER / "requirements.txt").read_text().split() == [f"connectomebench[apps]=={__version__}"]


def test_the_app_calls_what_the_package_has() -> None:
    tree = ast.parse((FOLDER / str((read_settings(FOLDER) or {})["app_file"])).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            module = __import__(str(node.module), fromlist=["x"])
            assert all(hasattr(module, name.name) for name in node.names)


def test_the_card_introduces_proofreading_as_the_page_does() -> None:
    card = " ".join((FOLDER / "README.md").read_text().split())
    assert INTRODUCTION in card and INTRODUCTION.count(".") == 5
