"""Send a dataset to the Hub: large files first, then one commit, then the tag of the format."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.errors import ConnectomeBenchError
from connectomebench.hub.errors import hub_errors
from connectomebench.hub.layout import MAIN, TAG, is_shard
from connectomebench.hub.local import dataset_folders, read_dataset
from connectomebench.hub.plan import Change, Plan, make_plan
from connectomebench.hub.remote import check_branch_name, read_repo

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_log = logging.getLogger(__name__)

# rows are sent in portions of this size, so that a publication shows how far it is; what was sent is not sent again
PORTION_BYTES = 2_000_000_000


def publish(
    folder: Path,
    repo: str | None = None,
    org: str | None = None,
    *,
    branch: str = MAIN,
    private: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    say: Callable[[str], None] = print,
) -> None:
    """Publish the dataset of a folder, or all datasets of a folder of them.

    All of them are compared with the Hub, and refused if they must be, before anything is sent.

    Parameters
    ----------
    folder
        ``OUT/TASK``, or ``OUT`` with ``org``.
    repo, org
        ``ORG/NAME``, or the owner of repositories named after the tasks; one of the two.
    branch
        Where the commit goes. The tag of the format follows ``main`` alone.
    private
        Make new repositories private.
    replace
        Allow that data of a species built from another configuration are replaced.
    dry_run
        Change nothing, and say what would change.
    say
        Takes what is to be shown.

    Raises
    ------
    ConnectomeBenchError
        If something is refused, here or by the Hub, or the connection is lost.
    """
    from huggingface_hub import HfApi

    check_branch_name(branch)
    targets = dataset_folders(folder, repo, org)
    for _, repo_id in targets:
        _check_repo_id(repo_id)
    api = HfApi(library_name="connectomebench")
    if not dry_run:
        with hub_errors(targets[0][1]):
            api.whoami()
    plans = [_plan(api, path, repo_id, branch, private, replace) for path, repo_id in targets]
    for plan in plans:
        if dry_run:
            say(as_text(plan))
        elif plan.is_empty:
            say(f"{plan.remote.repo_id}: nothing to change")
        else:
            say(_send(api, plan))
    if dry_run:
        say("dry run: nothing was changed")


def _check_repo_id(repo_id: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo_id)
        named = repo_id.count("/") == 1
    except HFValidationError:
        named = False
    if not named:
        raise ConnectomeBenchError(f"{repo_id!r} is no name of a repository; write ORG/NAME")


def _plan(api: HfApi, folder: Path, repo_id: str, branch: str, private: bool, replace: bool) -> Plan:
    local = read_dataset(folder)
    with hub_errors(repo_id):
        remote = read_repo(api, repo_id, branch, local.manifest["task"])
        return make_plan(local, remote, replace, private)


def as_text(plan: Plan) -> str:
    """List what a publication would do: one line a file, with its size, and what happens to repository and tag."""
    remote = plan.remote
    if not remote.exists:
        state = f"a new {'private' if plan.private else 'public'} dataset, or one that your login may not see"
    else:
        state = "private" if remote.private else "public"
    if not remote.has_branch:
        state += f", new branch {remote.branch}"
    width = max((len(change.path) for change in plan.changes), default=0)
    lines = [f"{remote.repo_id} ({state})"]
    lines += [f"  {change.kind:6}  {change.path:{width}}  {size_text(change.size):>8}" for change in plan.changes]
    if plan.kept:
        lines.append(f"  {plan.kept} files stay as they are")
    if plan.changes:
        lines.append(f"  commit: {plan.summary}")
    if plan.moves_tag:
        lines.append(f"  tag {TAG} {'is made' if remote.tagged is None else 'moves'}")
    return "\n".join([*lines, "  nothing to change"] if plan.is_empty else lines)


def size_text(n_bytes: int) -> str:
    """Write a number of bytes for people: ``17 B``, ``4.2 MB``."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    size = float(n_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def _send(api: HfApi, plan: Plan) -> str:
    """Do what a plan says, and tell it in one line."""
    from huggingface_hub import CommitOperationDelete

    remote, repo_id = plan.remote, plan.remote.repo_id
    with hub_errors(repo_id):
        if not remote.exists:
            api.create_repo(repo_id, repo_type="dataset", private=plan.private, exist_ok=True)
        if not remote.has_branch:
            api.create_branch(repo_id, branch=remote.branch, repo_type="dataset", revision=remote.head, exist_ok=True)
        told: list[str] = []
        commit = remote.head
        if plan.changes:
            additions = _send_large(api, plan)
            deletions = [CommitOperationDelete(c.path, is_folder=False) for c in plan.changes if c.kind == "delete"]
            commit = api.create_commit(
                repo_id,
                [*deletions, *additions],
                commit_message=plan.summary,
                commit_description=plan.description,
                repo_type="dataset",
                revision=remote.branch,
                parent_commit=remote.head,
            ).oid
            told = [f"{n} {kind}" for kind, n in _counts(plan).items()] + [f"commit {commit[:8]}"]
        if not remote.has_branch:
            told.append(f"branch {remote.branch}")
        if plan.moves_tag:
            if remote.tagged is not None:
                api.delete_tag(repo_id, tag=TAG, repo_type="dataset")
            api.create_tag(repo_id, tag=TAG, revision=commit, repo_type="dataset", exist_ok=True)
            told.append(f"tag {TAG}")
    return f"{repo_id}: {', '.join(told)}"


def _counts(plan: Plan) -> dict[str, int]:
    words = {"add": "added", "change": "changed", "delete": "deleted"}
    counts = {word: sum(change.kind == kind for change in plan.changes) for kind, word in words.items()}
    return {word: n for word, n in counts.items() if n}


def _send_large(api: HfApi, plan: Plan) -> list[CommitOperationAdd]:
    """Send the rows, portion by portion, and return all additions of the commit to come.

    The Hub keeps what is sent before there is a commit, so a publication that was cut short goes on with what is
    missing, and the commit is still one.
    """
    from huggingface_hub import CommitOperationAdd

    done = 0
    total = sum(c.size for c in plan.changes if c.content is not None and is_shard(c.path))
    additions: list[CommitOperationAdd] = []
    for portion in _portions(plan):
        ready = [CommitOperationAdd(c.path, c.content) for c in portion if c.content is not None]
        api.preupload_lfs_files(
            plan.remote.repo_id, ready, repo_type="dataset", revision=plan.remote.branch, free_memory=False
        )
        additions += ready
        done += sum(c.size for c in portion)
        _log.info("%s: %s of %s sent", plan.remote.repo_id, size_text(done), size_text(total))
    additions += [
        CommitOperationAdd(c.path, c.content) for c in plan.changes if c.content is not None and not is_shard(c.path)
    ]
    return additions


def _portions(plan: Plan) -> Iterator[list[Change]]:
    portion: list[Change] = []
    for change in plan.changes:
        if change.content is None or not is_shard(change.path):
            continue
        if portion and sum(c.size for c in portion) + change.size > PORTION_BYTES:
            yield portion
            portion = []
        portion.append(change)
    if portion:
        yield portion
