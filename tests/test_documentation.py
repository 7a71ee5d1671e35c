"""What the documentation names is there: linked files, modules by their paths, and the public API in the reference."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

import connectomebench

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *ROOT.glob("*/README.md"), ROOT / "benchmarks" / "RESULTS.md"]
)
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)")
MODULE = re.compile(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.py)`")
DOTTED = re.compile(r"connectomebench((?:\.[a-z_0-9]+)+)")
PLACEHOLDERS = ("yours", "workers.py")


def find_module(path: str, page: Path) -> bool:
    starts = (ROOT, page.parent, *(p for p in (ROOT / "src" / "connectomebench").iterdir() if p.is_dir()))
    return any((start / path).is_file() for start in (*starts, ROOT / "src" / "connectomebench"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path):
    text = page.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if not (page.parent / link).exists()]
    assert not links, f"{page}: broken links"
    if page.name == "CHANGELOG.md":  # speaks of earlier versions too
        return
    modules = [path for path in MODULE.findall(text) if not any(word in path for word in PLACEHOLDERS)]
    assert not [path for path in modules if not find_module(path, page)], f"{page}: no such modules"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_dotted_modules_exist(page: Path):
    for dotted in DOTTED.findall(page.read_text(encoding="utf-8")):
        parts = dotted.strip(".").split(".")
        if parts[0] in ("json", "git"):
            continue
        path, depth = ROOT / "src" / "connectomebench", 0
        while depth < len(parts) and (path / parts[depth]).is_dir():
            path, depth = path / parts[depth], depth + 1
        if depth < len(parts) and (path / f"{parts[depth]}.py").is_file():
            path, depth = path / f"{parts[depth]}.py", depth + 1
        if depth < len(parts):  # an attribute of the module or package
            source = (path / "__init__.py" if path.is_dir() else path).read_text(encoding="utf-8")
            assert re.search(rf"\b{parts[depth]}\b", source), f"{page.name}: connectomebench{dotted}"


def test_the_reference_has_the_public_api():
    shown = set(re.findall(r"^::: connectomebench\..*\.(\w+)$", (ROOT / "docs/reference/api.md").read_text(), re.M))
    assert shown == set(connectomebench.__all__) - {"__version__"}


def test_the_citation_has_the_version_and_licence_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])


def test_notebooks_are_kept_without_outputs():
    notebooks = sorted((ROOT / "examples").glob("*.ipynb"))
    assert notebooks
    for path in notebooks:
        assert '"outputs": []' in (text := path.read_text(encoding="utf-8"))
        assert '"output_type"' not in text and not re.search(r'"execution_count": \d', text)


FENCE = re.compile(r"^```sh\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def commands_of(path: Path) -> list[str]:
    """Lines that call the command: in blocks of a page, in comments of a configuration."""
    text = path.read_text(encoding="utf-8")
    lines = "\n".join(FENCE.findall(text)) if path.suffix == ".md" else re.sub(r"^# *", "", text, flags=re.MULTILINE)
    joined = lines.replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.startswith("connectomebench ")]


@pytest.mark.parametrize(
    "page", [*PAGES, *sorted((ROOT / "examples").glob("*.yaml"))], ids=lambda page: str(page.relative_to(ROOT))
)
def test_commands_that_a_page_shows_exist_with_their_options(page: Path, capsys: pytest.CaptureFixture[str]):
    from connectomebench.cli import _parser

    for line in commands_of(page):
        words = shlex.split(line.partition(" | ")[0], comments=True)[1:]
        try:
            _parser().parse_args(words)
        except SystemExit as error:
            assert error.code == 0, f"{page}: {line}\n{capsys.readouterr().err}"
