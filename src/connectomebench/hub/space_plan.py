"""Plan the publication of a metric or another Space."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.dataset.card_template import ORGANISATION
from connectomebench.dataset.repo_layout import CARD
from connectomebench.hub.diff import FileChange, PublicationPlan, compare, texts
from connectomebench.hub.options import PublishConfig
from connectomebench.hub.remote import read_repo, refuse_public
from connectomebench.hub.secret_scan import check_private

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_SDKS = ("gradio", "static", "docker")
_MAX_FILE_BYTES = 1_000_000_000
_LEFT_OUT = ("__pycache__", ".pyc")


def read_settings(folder: Path) -> dict[str, object] | None:
    """Read the settings of a Space from its README.md; None if the folder is no Space."""
    from huggingface_hub import RepoCard

    path = folder / CARD
    if not path.is_file():
        return None
    try:
        settings = RepoCard.load(path, ignore_metadata_errors=False).data.to_dict()
    except Exception:  # YAML that cannot be read: no Space
        return None
    return settings if settings.get("sdk") else None


def is_metric(settings: dict[str, object]) -> bool:
    """Return whether a Space is an `evaluate` metric."""
    tags = settings.get("tags")
    return isinstance(tags, list) and {"evaluate", "metric"} <= set(tags)


def space_plan(api: HfApi | None, folder: Path, repo_id: str, options: PublishConfig) -> PublicationPlan:
    """Compare the folder of a metric or another Space with a repository; every file is published.

    Parameters
    ----------
    api
        The Hub; None plans against an empty repository.
    folder
        With README.md (its YAML names ``sdk`` and ``app_file``) and the app.
    repo_id
        Repository to publish to.
    options
        Options of the publication.

    Raises
    ------
    ConnectomeBenchError
        If the folder is not complete, a metric would not be found under the name, the repository holds files that the
        folder has not, or a text holds something private.
    """
    settings = read_settings(folder)
    assert settings is not None
    files = _files(folder)
    _check(folder, repo_id, settings, files)
    contents: dict[str, Path | bytes] = {**files, CARD: _own_card(files[CARD], repo_id)}
    remote = read_repo(api, repo_id, "space", options.branch)
    refuse_public(remote, options.private)
    foreign = sorted(remote.own_files - set(contents))
    if foreign and not options.replace:
        raise ConnectomeBenchError(
            f"{repo_id} holds other content ({foreign[0]}); choose another name, or add --replace to delete it"
        )
    changes, kept = compare(contents, remote.files)
    changes += [FileChange("delete", path, remote.files[path].size, None) for path in foreign]
    check_private(texts(changes), set())
    ordered = tuple(sorted(changes, key=lambda change: change.path))
    verb = "Update" if remote.own_files else "Add"
    summary = f"{verb} {'metric' if is_metric(settings) else 'Space'} {folder.resolve().name}"
    return PublicationPlan(remote, options.private, ordered, kept, summary, "", sdk=str(settings["sdk"]))


def _own_card(path: Path, repo_id: str) -> bytes:
    """Return the README of a Space, with the datasets of its owner where it names those of the project."""
    text = path.read_text(encoding="utf-8")
    owner = repo_id.split("/")[0]
    return re.sub(rf"(?m)^- {ORGANISATION}/([a-z_]+)$", rf"- {owner}/\1", text).encode()


def _files(folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") or part.endswith(_LEFT_OUT) for part in name.split("/")):
            continue
        if path.is_symlink():
            raise ConnectomeBenchError(f"{path} is a link; put the file itself there")
        if path.is_file():
            found[name] = path
    return found


def _check(folder: Path, repo_id: str, settings: dict[str, object], contents: dict[str, Path]) -> None:
    if settings["sdk"] not in _SDKS:
        raise ConnectomeBenchError(f"{folder / CARD} names the sdk {settings['sdk']!r}; choose {', '.join(_SDKS)}")
    app = str(settings.get("app_file", "app.py"))
    if settings["sdk"] != "docker" and app not in contents:
        raise ConnectomeBenchError(f"{folder} lacks {app}, which its {CARD} names as app_file")
    large = [name for name, path in contents.items() if path.stat().st_size > _MAX_FILE_BYTES]
    if large:
        raise ConnectomeBenchError(f"{folder / large[0]} is larger than 1 GB, too large for a Space; take it out")
    module = f"{repo_id.split('/')[1]}.py"
    if is_metric(settings) and module not in contents:
        raise ConnectomeBenchError(
            f"evaluate.load({repo_id!r}) looks for {module}, which {folder} does not have; name the repository after "
            "the metric"
        )
