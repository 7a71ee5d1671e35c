"""The 3D viewer in a real browser: its views are the pictures that the renderer draws, and nothing else is asked."""

from __future__ import annotations

import hashlib
import io
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files

import numpy as np
import pytest
from chromium import chromium
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route
from swept_tubes import CENTER, EXTENT, crossing_tubes

from connectomebench.core.site import Part, Site
from connectomebench.rendering.colours import BACKGROUND, BLUE, ORANGE
from connectomebench.rendering.engines import CpuEngine
from connectomebench.rendering.scene_file import site_scene
from connectomebench.web.access import Access
from connectomebench.web.guard import Guard
from connectomebench.web.viewer_files import viewer_css, viewer_routes

SIDE = 256
SITE = Site("merge_action", CENTER, EXTENT, (Part(1, "base"), Part(2, "candidate")), "no", (1, 2), (), "control")
PAGE = f"""<!doctype html><title>viewer</title><style>{viewer_css()}
#here {{ width: {SIDE}px; }} .viewer canvas {{ flex: none; height: {SIDE}px; }}</style><div id="here"></div>
<script type="module">
import {{ openViewer }} from "./viewer/viewer.js";
window.viewer = openViewer(document.querySelector("#here"));
await window.viewer.show({{ scene: "scene.glb", planes: {{ em_xy: "em.png" }} }});
window.shown = true;
</script>"""
# three.js 0.183.0 as its authors published it; see web/viewer/README.md
PUBLISHED = {
    "three.core.min.js": "c5f69a04c70de8c95152040c286a3c8a0489603b019dfd61b34c451e3371c4fd",
    "three.module.min.js": "e3ec4d5d223c0119f754150a3d9deef16139074ea17b073e93bbce315ad16eda",
    "TrackballControls.js": "b8572b1f89b15d59b499f4f39d24fcc0541d75b361c4726a3833c6248bfa655f",
}


def test_the_library_is_the_published_one():
    here = files("connectomebench.web") / "viewer"
    for name, digest in PUBLISHED.items():
        content = (here / name).read_bytes().replace(b"'./three.module.min.js'", b"'three'")
        if name != "TrackballControls.js":
            content = (here / name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == digest, name


@contextmanager
def served(scene: bytes) -> Iterator[str]:
    """Serve the page behind the guard, as pages are."""
    import uvicorn

    picture = io.BytesIO()
    Image.new("RGB", (64, 64), (90, 160, 30)).save(picture, "PNG")

    async def page(_: Request) -> HTMLResponse:
        return HTMLResponse(PAGE)

    async def give(request: Request) -> Response:
        return Response(scene if request.url.path.endswith("glb") else picture.getvalue())

    routes = [Route("/", page), Route("/scene.glb", give), Route("/em.png", give), *viewer_routes()]
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        app = Guard(Starlette(routes=routes), Access(secret=None))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        server.should_exit = True
        thread.join()


def test_the_views_are_the_pictures():
    meshes = crossing_tubes()
    drawn = CpuEngine(1).render(meshes, [BLUE, ORANGE], CENTER, EXTENT, SIDE)
    asked: list[str] = []
    wrong: list[str] = []
    with served(site_scene(SITE, meshes)) as url, chromium() as browser:
        page = browser.new_page(viewport={"width": 600, "height": 500})
        page.set_default_timeout(60_000)
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(url)
        page.wait_for_function("window.shown")

        def picture() -> np.ndarray:
            shot = page.locator("canvas").screenshot(timeout=60_000)
            return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)[2:-2, 2:-2]

        def state() -> dict:
            return page.evaluate("viewer.state()")

        for view, expected in drawn.items():
            page.get_by_role("button", name=view).click()
            page.wait_for_function(f"document.querySelector('canvas').dataset.view === '{view}'")
            found, expected = picture(), expected.astype(int)[2:-2, 2:-2]
            ours, theirs = (np.abs(one - BACKGROUND).max(axis=2) > 60 for one in (found, expected))
            assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97, view
            # the same colours, away from edges that either side draws smoothly
            assert np.median(np.abs(found - expected).max(axis=2)[ours & theirs]) <= 4, view

        page.get_by_role("button", name="segment").click()
        assert [part["visible"] for part in state()["parts"]] == [False, True]
        page.get_by_role("button", name="slices").click()
        page.get_by_role("button", name="front").click()
        page.wait_for_function("document.querySelector('canvas').dataset.view === 'front'")
        page.wait_for_timeout(300)
        assert tuple(picture()[-10, 10]) == (90, 160, 30)  # grey values of a slice are those of its picture

        box = page.locator("canvas").bounding_box()
        x, y = box["x"] + SIDE / 2, box["y"] + SIDE / 2
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + 50, y + 20, steps=3)
        page.mouse.up()
        page.mouse.wheel(0, -300)
        page.wait_for_function("viewer.state().zoom > 1")
        turned = state()
        assert turned["view"] == "" and abs(turned["position"][0]) > 1
        assert np.linalg.norm(turned["position"]) == pytest.approx(8)
    assert not wrong and not [one for one in asked if not one.startswith((url, "data:", "blob:"))]
    assert {one.rsplit("/", 1)[1] for one in asked if "/viewer/" in one} == {"viewer.js", *PUBLISHED}
