"""Run the notebooks of examples/ and the blocks of README and docs that are marked to run, on the quickstart's output.

    python .ci/examples.py quickstart-out                     run them all, as in a clone after make quickstart
    python .ci/examples.py --strip examples/a.ipynb ...       take outputs out of notebooks, as they are kept in git
    python .ci/examples.py --check                            say which notebooks have outputs

A block runs if the line above it is ``<!-- run -->``. Everything runs in a temporary folder that looks like the clone.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^<!-- run -->\n```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SECONDS = 600


def main() -> int:
    """Return the exit status: 0 if everything ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strip", action="store_true", help="take outputs out of notebooks")
    parser.add_argument("--check", action="store_true", help="fail where a notebook has outputs")
    parser.add_argument("paths", nargs="*", type=Path, help="the quickstart's output; with --strip: notebooks")
    arguments = parser.parse_args()
    if arguments.strip:
        for path in arguments.paths or NOTEBOOKS:
            strip(path)
        return 0
    unclean = [path.name for path in NOTEBOOKS if stripped(path) != path.read_text(encoding="utf-8")]
    if unclean:
        print(f"{', '.join(unclean)}: has outputs; run .ci/examples.py --strip", file=sys.stderr)
        return 1
    if arguments.check:
        return 0
    if len(arguments.paths) != 1 or not (arguments.paths[0] / "report" / "index.html").is_file():
        print("name a folder that `connectomebench quickstart` made; run make quickstart first", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "clone"
        copy_clone(clone, arguments.paths[0].resolve())
        return run_all(clone)


def copy_clone(clone: Path, quickstart: Path) -> None:
    """Make a folder like a clone after the quickstart; only what is written to is copied."""
    clone.mkdir()
    for entry in ROOT.iterdir():
        if entry.name not in ("build", "dist", "examples", "out", "quickstart-out", "results", "site", ".git"):
            (clone / entry.name).symlink_to(entry)
    shutil.copytree(ROOT / "examples", clone / "examples")
    shutil.copytree(quickstart, clone / "quickstart-out")


def run_all(clone: Path) -> int:
    """Run the blocks of the pages, then notebooks; print each with its seconds, and the output of those that fail."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    jobs = [
        (
            f"{page.relative_to(ROOT)} block {number} ({language})",
            lambda language=language, code=code: run_block(language, code, clone, environment),
        )
        for page in PAGES
        for number, (language, code) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), start=1)
    ]
    jobs += [(path.name, lambda path=path: run_notebook(clone / "examples" / path.name)) for path in NOTEBOOKS]
    failed = 0
    for name, job in jobs:
        start = time.perf_counter()
        problem = job()
        print(f"{name}: {'FAILED' if problem else 'ran'} in {time.perf_counter() - start:.0f} s", flush=True)
        if problem:
            failed += 1
            print(problem, file=sys.stderr)
    if not jobs or failed:
        print(f"{failed} of {len(jobs)} examples failed", file=sys.stderr)
        return 1
    return 0


def run_block(language: str, code: str, clone: Path, environment: dict[str, str]) -> str:
    """Run a block in the clone; return what it printed where it failed, else nothing."""
    command = ["bash", "-euo", "pipefail", "-c", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True, timeout=SECONDS)
    return f"{code}\n{done.stdout}\n{done.stderr}" if done.returncode else ""


def run_notebook(path: Path) -> str:
    """Run a notebook in its folder; return the traceback where it failed, else nothing."""
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(path.parent)}}
    try:
        NotebookClient(notebook, timeout=SECONDS, startup_timeout=SECONDS, resources=place).execute()
    except CellExecutionError as error:
        return str(error)
    return ""


def stripped(path: Path) -> str:
    """Return the text of a notebook without outputs and counts."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata = {}
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return nbformat.writes(notebook) + "\n"


def strip(path: Path) -> None:
    """Write a notebook without outputs, if it has any."""
    text = stripped(path)
    if text != path.read_text(encoding="utf-8"):
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
