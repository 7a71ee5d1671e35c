"""Serve the 3D viewer, and scene files, to a page."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

PATH = "viewer"
"""Path of the files below the address of a page."""

_KINDS = {".js": "text/javascript", ".css": "text/css"}
_FILES = ("viewer.js", "viewer.css", "three.core.min.js", "three.module.min.js", "TrackballControls.js")


def viewer_css() -> str:
    """Return the style sheet of the viewer."""
    return (files("connectomebench.web") / "viewer" / "viewer.css").read_text(encoding="utf-8")


def viewer_routes() -> list[Route]:
    """Return the routes of the viewer: ``viewer/viewer.js`` and what it imports."""
    from starlette.routing import Route

    return [Route(f"/{PATH}/{{name}}", _viewer_file)]


async def _viewer_file(request: Request) -> Response:
    from starlette.responses import PlainTextResponse, Response

    name = request.path_params["name"]
    if name not in _FILES:
        return PlainTextResponse("there is no such file", 404)
    content = (files("connectomebench.web") / "viewer" / name).read_bytes()
    kind = _KINDS[name[name.rfind(".") :]]
    return Response(content, media_type=kind, headers={"cache-control": "private, max-age=3600"})
