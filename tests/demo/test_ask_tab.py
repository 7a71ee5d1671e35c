"""A stranger's own meshes in a real browser: drawn, judged, refused in plain words, and not kept."""

from __future__ import annotations

import base64
import hashlib
import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import trimesh
from chromium import chromium
from swept_tubes import crossing_tubes

from connectomebench import load_model
from connectomebench.core.tasks import get_task
from connectomebench.demo import page as demo_page
from connectomebench.demo.ask_pictures import draw_meshes, meeting_point
from connectomebench.demo.mesh_files import read_mesh
from connectomebench.demo.server import Demo

SAID = "#cb-ask-said"
# Gradio fades what is about to change
SETTLED = """() => {
  let at = document.querySelector("#cb-ask-said p").parentElement;
  while (at && getComputedStyle(at).opacity === "1") at = at.parentElement;
  return !at;
}"""
MICROMETRES = (1000.0, 1000.0, 1000.0)


@contextmanager
def served(folder: Path, scratch: Path, seconds: tuple[int, int]) -> Iterator[Demo]:
    """Serve the demo; ``scratch/uploads`` is for uploads, removed after some seconds, ``scratch/home`` for tokens."""
    from connectomebench.demo.server import serve

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(scratch / "uploads"))
        patch.setenv("HOME", str(scratch / "home"))
        patch.setattr(demo_page, "_CACHE_S", seconds)
        running = serve(folder, "127.0.0.1", port, wait=False)
        try:
            yield running
        finally:
            running.close()


@contextmanager
def visit(running: Demo) -> Iterator[httpx.Client]:
    """Open the page as a browser does: the secret of the address becomes a cookie."""
    with httpx.Client(base_url=running.url, timeout=60, limits=httpx.Limits(max_connections=None)) as client:
        assert client.get(running.address, follow_redirects=True).status_code == 200
        yield client


@pytest.fixture(scope="module")
def meshes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two neurites in micrometres, as files of two kinds."""
    folder = tmp_path_factory.mktemp("meshes")
    paths = [folder / "first.ply", folder / "second.glb"]
    for path, mesh in zip(paths, crossing_tubes(), strict=True):
        trimesh.Trimesh(mesh.vertices_nm / 1000, mesh.faces, process=False).export(path)
    return paths


def test_uploads_are_removed_and_cannot_be_found(asked_folder: Path, meshes: list[Path], tmp_path: Path) -> None:
    content, uploads = meshes[0].read_bytes(), tmp_path / "uploads"
    with served(asked_folder, tmp_path, (1, 1)) as running, visit(running) as client:
        assert "A place in CAVE" not in client.get("config").text
        (path,) = client.post("gradio_api/upload", files={"files": ("first.ply", content)}).json()
        # a hash with a secret of the server: not even those who have the same file know the address
        assert re.fullmatch(re.escape(str(uploads)) + "/run-[0-9a-f]{16}/[0-9a-f]{64}/first.ply", path)
        assert hashlib.sha256(content).hexdigest() not in path
        assert client.get(f"gradio_api/file={path}").content == content
        own = Path(path).parent.parent
        for guess in (uploads, f"{own}/", own / "first.ply", Path(path).parent, f"{own}/*/first.ply"):
            assert client.get(f"gradio_api/file={guess}").status_code in (403, 404)
        until = time.monotonic() + 10
        while Path(path).exists() and time.monotonic() < until:
            time.sleep(0.1)
        assert not [left for left in own.rglob("*") if left.is_file()]
        assert client.get(f"gradio_api/file={path}").status_code in (403, 404)
    assert not list(uploads.iterdir())


def test_places_in_cave_are_offered_where_there_is_a_token(asked_folder: Path, tmp_path: Path) -> None:
    secrets = tmp_path / "home" / ".cloudvolume" / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "cave-secret.json").write_text('{"token": "abc123"}')
    with served(asked_folder, tmp_path, (60, 600)) as running, visit(running) as client:
        config = client.get("config").text
    assert "A place in CAVE" in config and "MICrONS" in config and "abc123" not in config


@pytest.fixture
def page(asked_folder: Path, tmp_path: Path) -> Iterator[Any]:
    """The tab, wide and light; afterwards no script may have failed."""
    failed: list[str] = []
    with served(asked_folder, tmp_path, (60, 600)) as running, chromium() as browser:
        opened = browser.new_page(viewport={"width": 1440, "height": 900})
        opened.set_default_timeout(60_000)
        opened.on("pageerror", lambda error: failed.append(str(error)))
        opened.goto(running.address)
        opened.get_by_role("tab", name="Ask the models").click()
        yield opened
    assert failed == []


def upload(page: Any, place: str, path: Path) -> None:
    page.set_input_files(f"{place} input[type=file]", str(path))
    page.get_by_text(path.stem).last.wait_for()
    page.wait_for_function(f"!document.querySelector('{place} .progress-bar, {place} .uploading')")


def ask(page: Any, expected: str) -> str:
    """Ask, and wait until what is said holds some words."""
    page.click("#cb-ask-go")
    # a process is started for each question, which takes long on a busy machine
    page.wait_for_function(f"document.querySelector('{SAID}').innerText.includes({expected!r})", timeout=90_000)
    page.wait_for_function(SETTLED)
    return page.inner_text(SAID)


def probability(told: str) -> str:
    return re.findall(r"\b[01]\.\d\d\b", told)[-1]


def serious(page: Any) -> list[str]:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    found = axe.Axe().run(page).response["violations"]
    return [
        f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found if one["impact"] in ("serious", "critical")
    ]


def test_a_strangers_meshes_and_views_are_judged_and_wrong_ones_refused(
    page: Any, asked_folder: Path, meshes: list[Path], tmp_path: Path
) -> None:
    task = get_task("merge_action")
    read = [read_mesh(path.read_bytes(), MICROMETRES) for path in meshes]
    point = meeting_point(read)
    drawn = draw_meshes(task, read, point, 4000.0)
    (answer,) = load_model(str(asked_folder / "models" / "trivial")).predict({"images": [drawn]})

    assert ask(page, "Upload") == "Upload a mesh for the blue piece and the orange piece."
    for number, path in enumerate(meshes):
        upload(page, f"#cb-mesh-{number}", path)
    page.fill("#cb-ask-unit input, #cb-ask-unit textarea", "1000")
    page.fill("#cb-ask-extent input", "4")
    told = ask(page, "What the models say")
    assert f"Centre {point[0]:.0f}, {point[1]:.0f}, {point[2]:.0f} nm; the views are 4 µm wide." in told
    assert probability(told) == f"{answer.probabilities['yes']:.2f}" and f"\t{answer.prediction}\t" in told
    assert "guesses of models" in told and "Fruit fly brain" in told
    assert serious(page) == []

    sources = page.eval_on_selector_all(f"{SAID} img", "all => all.map(one => one.src)")
    page.get_by_label("Three finished views").check()
    for name, source in zip(task.views, sources, strict=True):
        (tmp_path / f"my-{name}.png").write_bytes(base64.b64decode(source.removeprefix("data:image/png;base64,")))
        page.wait_for_selector(f"#cb-view-{name}:visible")
        upload(page, f"#cb-view-{name}", tmp_path / f"my-{name}.png")
    assert probability(ask(page, "Your views, as you uploaded them")) == probability(told)

    page.get_by_label("Meshes").check()
    page.wait_for_selector("#cb-mesh-1:visible")
    bad = tmp_path / "bad.ply"
    bad.write_bytes(b"ply\n<b>rubbish</b>")
    upload(page, "#cb-mesh-0", bad)
    upload(page, "#cb-mesh-1", meshes[1])
    assert ask(page, "whole") == "The file is no whole PLY file; export it again."
    for left in tmp_path.rglob("bad.ply"):
        left.unlink()
    assert "removed after ten minutes" in ask(page, "went wrong")
    page.get_by_label("Question").click()
    page.get_by_role("option", name="Are two different neurons fused").click()
    page.wait_for_selector("#cb-mesh-1", state="hidden")
