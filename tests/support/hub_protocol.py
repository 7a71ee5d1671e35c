"""What the small Hub of the tests answers, route by route; see :mod:`hub_server`."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import yaml
from hub_store import Commit, File, Repo, Store
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

WRITER = "hf_" + "w" * 30
READER = "hf_" + "r" * 30
ORGANISATION = "brains"
_KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}
_DATE = "2026-01-01T00:00:00.000Z"


class Refusal(Exception):
    """An answer other than success, as the Hub words it: status, code and message in headers."""

    def __init__(self, status: int, message: str, code: str | None = None) -> None:
        super().__init__(message)
        self.response = JSONResponse({"error": message}, status, {"X-Error-Message": message})
        if code:
            self.response.headers["X-Error-Code"] = code


class Hub:
    """Repositories, users, and the answers to all requests.

    Attributes
    ----------
    users
        Token -> organisation it may write to, or None.
    received
        Bodies of all commits, in order.
    """

    def __init__(self, folder: Path, port: int, page_size: int = 4) -> None:
        self.store = Store(folder)
        self.url = f"http://127.0.0.1:{port}"
        self.elsewhere = f"http://localhost:{port}"
        self.page_size = page_size
        self.users: dict[str, str | None] = {WRITER: ORGANISATION, READER: None}
        self.received: list[bytes] = []

    # who asks, and what they may do

    def _token(self, request: Request) -> str | None:
        words = request.headers.get("authorization", "").split()
        if not words:
            return None
        if words[0] != "Bearer" or words[-1] not in self.users:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return words[-1]

    def _owns(self, token: str | None, name: str) -> bool:
        return token is not None and self.users[token] == name.split("/")[0]

    def _visible(self, request: Request, kinds: str, name: str) -> Repo:
        token = self._token(request)
        repo = self.store.repos.get((_KINDS[kinds], name))
        if repo is None or (repo.private and not self._owns(token, name)):
            # the Hub tells those who are not logged in no more than this
            raise Refusal(401 if token is None else 404, "Repository not found", "RepoNotFound")
        return repo

    def _writable(self, request: Request, kinds: str, name: str) -> Repo:
        repo = self._visible(request, kinds, name)
        token = self._token(request)
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        if not self._owns(token, name):
            raise Refusal(403, f"Forbidden: you have no write access to {name}")
        return repo

    def _commit(self, repo: Repo, revision: str) -> Commit:
        commit = repo.find(revision or "main")
        if commit is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # accounts and repositories

    async def whoami(self, request: Request) -> Response:
        token = self._token(request)
        if token is None:
            raise Refusal(401, "Invalid username or password.")
        own = self.users[token]
        orgs = [{"type": "org", "name": own, "roleInOrg": "write"}] if own else []
        access = {"accessToken": {"displayName": "test", "role": "write" if own else "read"}}
        return JSONResponse(
            {"type": "user", "name": "someone", "orgs": orgs, "auth": {"type": "access_token", **access}}
        )

    async def create_repo(self, request: Request) -> Response:
        token, body = self._token(request), await request.json()
        kind, name = body.get("type") or "model", f"{body['organization']}/{body['name']}"
        if not self._owns(token, name):
            raise Refusal(403 if token else 401, f"You don't have the rights to create a {kind} under this namespace")
        prefix = "" if kind == "model" else f"{kind}s/"
        answer = {"url": f"{self.url}/{prefix}{name}", "name": name, "id": "1"}
        if (kind, name) in self.store.repos:
            return JSONResponse({"error": "You already created this repo", **answer}, 409)
        private = body.get("private") is True or body.get("visibility") == "private"
        if (kind == "space") != ("sdk" in body):
            raise Refusal(400, "a Space, and nothing else, has an sdk")
        self.store.create(kind, name, private, body.get("sdk"))
        return JSONResponse(answer)

    async def repo_info(self, request: Request, kinds: str, name: str, rev: str = "") -> Response:
        repo = self._visible(request, kinds, name)
        commit = self._commit(repo, rev)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in sorted(commit.files)]
        if request.query_params.get("blobs"):
            siblings = [s | {"size": (f := commit.files[s["rfilename"]]).size, "blobId": f.oid} for s in siblings]
        return JSONResponse(
            {
                "_id": "1",
                "id": name,
                "author": name.split("/")[0],
                "sha": commit.oid,
                "lastModified": _DATE,
                "createdAt": _DATE,
                "private": repo.private,
                "gated": False,
                "disabled": False,
                "downloads": 0,
                "likes": 0,
                "tags": [],
                "siblings": siblings,
            }
        )

    async def tree(self, request: Request, kinds: str, name: str, rev: str, path: str = "") -> Response:
        commit = self._commit(self._visible(request, kinds, name), rev)
        entries = _entries(commit, path, request.query_params.get("recursive", "").lower() == "true")
        if path and not entries:
            raise Refusal(404, f"{path} does not exist on {rev}", "EntryNotFound")
        start = int(request.query_params.get("cursor", "0"))
        page = entries[start : start + self.page_size]
        response = JSONResponse(page)
        if start + self.page_size < len(entries):
            url = request.url.include_query_params(cursor=start + self.page_size)
            response.headers["Link"] = f'<{url}>; rel="next"'
        return response

    async def paths_info(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        commit = self._commit(self._visible(request, kinds, name), rev)
        wanted = parse_qs((await request.body()).decode())["paths"]
        known = {e["path"]: e for e in _entries(commit, "", True)}
        return JSONResponse([known[path] for path in wanted if path in known])

    # branches and tags

    async def refs(self, request: Request, kinds: str, name: str) -> Response:
        repo = self._visible(request, kinds, name)
        branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in repo.branches.items()]
        tags = [{"name": n, "ref": f"refs/tags/{n}", "targetCommit": c} for n, c in repo.tags.items()]
        return JSONResponse({"branches": branches, "converts": [], "tags": tags})

    async def create_branch(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        repo = self._writable(request, kinds, name)
        if rev in repo.branches:
            raise Refusal(409, f"Reference already exists: {rev}")
        body = await request.json()
        repo.branches[rev] = self._commit(repo, body.get("startingPoint", "main")).oid
        return JSONResponse({})

    async def delete_branch(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        if self._writable(request, kinds, name).branches.pop(rev, None) is None:
            raise Refusal(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return JSONResponse({})

    async def create_tag(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        repo = self._writable(request, kinds, name)
        tag = (await request.json())["tag"]
        if tag in repo.tags:
            raise Refusal(409, f"Tag already exists: {tag}")
        repo.tags[tag] = self._commit(repo, rev).oid
        return JSONResponse({})

    async def delete_tag(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        if self._writable(request, kinds, name).tags.pop(rev, None) is None:
            raise Refusal(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        return JSONResponse({})

    # sending

    async def validate_yaml(self, request: Request) -> Response:
        content = (await request.json())["content"]
        parts = content.split("---\n", 2)
        try:
            metadata = yaml.safe_load(parts[1]) if content.startswith("---\n") else None
        except yaml.YAMLError:
            metadata = None
        if not isinstance(metadata, dict):
            return JSONResponse({"errors": [{"message": "no metadata"}], "warnings": []}, 400)
        return JSONResponse({"errors": [], "warnings": []})

    async def preupload(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        commit = self._commit(self._writable(request, kinds, name), rev)
        files = []
        for item in (await request.json())["files"]:
            large = self.store.is_large(item["path"], item["size"], base64.b64decode(item["sample"]))
            there = commit.files.get(item["path"])
            answer = {"path": item["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            files.append(answer | ({"oid": there.etag} if there else {}))
        return JSONResponse({"files": files, "commitOid": commit.oid})

    async def lfs_batch(self, request: Request, name: str, kinds: str = "models") -> Response:
        self._writable(request, kinds or "models", name)
        body = await request.json()
        assert body["operation"] == "upload" and "basic" in body["transfers"] and body["hash_algo"] == "sha256"
        assert "application/vnd.git-lfs+json" in request.headers["accept"]
        objects = []
        for item in body["objects"]:
            answer: dict[str, Any] = {"oid": item["oid"], "size": item["size"]}
            if self.store.large(item["oid"]) is None:
                prefix = f"{kinds}/" if kinds else ""
                verify = f"{self.url}/{prefix}{name}.git/info/lfs/objects/verify"
                upload = f"{self.url}/large/{item['oid']}?signature=1"
                answer["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def put_large(self, request: Request, oid: str) -> Response:
        assert "authorization" not in request.headers, "the token was sent to the storage of large files"
        if not self.store.put_large(oid, await request.body()):
            raise Refusal(400, "the content is not what was announced")
        return Response()

    async def lfs_verify(self, request: Request, name: str, kinds: str = "models") -> Response:
        self._writable(request, kinds or "models", name)
        body = await request.json()
        file = self.store.large(body["oid"])
        if file is None or file.size != body["size"]:
            raise Refusal(404, "the object is not there")
        return JSONResponse({})

    async def commit(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        repo = self._writable(request, kinds, name)
        assert request.headers["content-type"] == "application/x-ndjson"
        body = await request.body()
        self.received.append(body)
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        assert lines[0]["key"] == "header"
        if rev not in repo.branches:
            raise Refusal(404, f"Invalid rev id: {rev}", "RevisionNotFound")
        if header.get("parentCommit", repo.branches[rev]) != repo.branches[rev]:
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        files = dict(repo.commits[repo.branches[rev]].files)
        for line in lines[1:]:
            self._apply(files, line["key"], line["value"])
        commit = repo.add(rev, header["summary"], header["description"], files)
        url = f"{self.url}/{kinds}/{name}/commit/{commit.oid}"
        return JSONResponse({"success": True, "commitOid": commit.oid, "commitUrl": url, "hookOutput": ""})

    def _apply(self, files: dict[str, File], key: str, value: dict[str, Any]) -> None:
        path = value["path"]
        if path.startswith("/") or ".." in path.split("/"):
            raise Refusal(400, f"invalid path {path}")
        if key == "file":
            assert value["encoding"] == "base64"
            files[path] = self.store.put_blob(base64.b64decode(value["content"]))
        elif key == "lfsFile":
            large = self.store.large(value["oid"])
            if value["algo"] != "sha256" or large is None or large.size != value["size"]:
                raise Refusal(400, f"the large file {path} was not uploaded")
            files[path] = large
        elif key == "deletedFile":
            if files.pop(path, None) is None:
                raise Refusal(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [name for name in files if name.startswith(path.rstrip("/") + "/")]
            if not inside:
                raise Refusal(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del files[name]
        else:
            raise Refusal(400, f"unknown operation {key}")

    async def commits(self, request: Request, kinds: str, name: str, rev: str) -> Response:
        repo = self._visible(request, kinds, name)
        self._commit(repo, rev)
        return JSONResponse(
            [
                {
                    "id": c.oid,
                    "title": c.title,
                    "message": c.description,
                    "date": _DATE,
                    "authors": [{"user": "someone"}],
                }
                for c in repo.history(rev)
            ]
        )

    # fetching

    async def resolve(self, request: Request, name: str, rev: str, path: str, kinds: str = "models") -> Response:
        commit = self._commit(self._visible(request, kinds or "models", name), rev)
        file = commit.files.get(path)
        if file is None:
            raise Refusal(404, f"{path} does not exist on {rev}", "EntryNotFound")
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if file.sha256:
            headers |= {
                "X-Linked-ETag": f'"{file.sha256}"',
                "X-Linked-Size": str(file.size),
                "Location": f"{self.elsewhere}/large/{file.sha256}?signature=1",
            }
            return Response(status_code=302, headers=headers)
        return _part(request, self.store.content(file), headers)

    async def get_large(self, request: Request, oid: str) -> Response:
        assert "authorization" not in request.headers, "the token was sent to the storage of large files"
        file = self.store.large(oid)
        if file is None:
            raise Refusal(404, "no such object")
        return _part(request, self.store.content(file), {"ETag": f'"{oid}"', "Accept-Ranges": "bytes"})


def _entries(commit: Commit, path: str, recursive: bool) -> list[dict[str, Any]]:
    start = f"{path}/" if path else ""
    entries: dict[str, dict[str, Any]] = {}
    for name, file in sorted(commit.files.items()):
        if not name.startswith(start):
            continue
        parents = name.split("/")[:-1]
        for n in range(start.count("/") + 1, len(parents) + 1):
            folder = "/".join(parents[:n])
            if recursive or n == start.count("/") + 1:
                entries[folder] = {"type": "directory", "oid": commit.oid, "size": 0, "path": folder}
        if recursive or "/" not in name.removeprefix(start):
            large = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 130}} if file.sha256 else {}
            entries[name] = {"type": "file", "oid": file.oid, "size": file.size, "path": name, **large}
    return list(entries.values())


def _part(request: Request, content: bytes, headers: dict[str, str]) -> Response:
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if not wanted:
        return Response(content, headers=headers, media_type="application/octet-stream")
    first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
    if first > last:
        return Response(status_code=416, headers={"Content-Range": f"bytes */{len(content)}"})
    headers = headers | {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return Response(content[first : last + 1], 206, headers, "application/octet-stream")


_Handler = Callable[..., Awaitable[Response]]
_REPO = r"(?P<kinds>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
_PLAIN = r"(?:(?P<kinds>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)"
_REV = r"(?P<rev>[^/]+)"
ROUTES: list[tuple[str, str, _Handler]] = [
    ("GET", "/api/whoami-v2", Hub.whoami),
    ("POST", "/api/repos/create", Hub.create_repo),
    ("POST", "/api/validate-yaml", Hub.validate_yaml),
    ("GET", f"/api/{_REPO}", Hub.repo_info),
    ("GET", f"/api/{_REPO}/revision/{_REV}", Hub.repo_info),
    ("GET", f"/api/{_REPO}/tree/{_REV}(?:/(?P<path>.+))?", Hub.tree),
    ("POST", f"/api/{_REPO}/paths-info/{_REV}", Hub.paths_info),
    ("GET", f"/api/{_REPO}/refs", Hub.refs),
    ("POST", f"/api/{_REPO}/branch/{_REV}", Hub.create_branch),
    ("DELETE", f"/api/{_REPO}/branch/{_REV}", Hub.delete_branch),
    ("POST", f"/api/{_REPO}/tag/{_REV}", Hub.create_tag),
    ("DELETE", f"/api/{_REPO}/tag/{_REV}", Hub.delete_tag),
    ("POST", f"/api/{_REPO}/preupload/{_REV}", Hub.preupload),
    ("POST", f"/api/{_REPO}/commit/{_REV}", Hub.commit),
    ("GET", f"/api/{_REPO}/commits/{_REV}", Hub.commits),
    ("POST", rf"/{_PLAIN}\.git/info/lfs/objects/batch", Hub.lfs_batch),
    ("POST", rf"/{_PLAIN}\.git/info/lfs/objects/verify", Hub.lfs_verify),
    ("PUT", r"/large/(?P<oid>[0-9a-f]{64})", Hub.put_large),
    ("GET", r"/large/(?P<oid>[0-9a-f]{64})", Hub.get_large),
    ("GET", f"/{_PLAIN}/resolve/{_REV}/(?P<path>.+)", Hub.resolve),
]
