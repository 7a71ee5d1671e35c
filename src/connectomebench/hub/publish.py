"""Publish datasets, models, metrics and Spaces to the Hub: large files first, then one commit, then the tag."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from connectomebench.core.errors import ConnectomeBenchError
from connectomebench.core.hub_errors import HubUnreachable, hub_errors
from connectomebench.hub.dataset_plan import dataset_plan
from connectomebench.hub.diff import FileChange, PublicationPlan
from connectomebench.hub.model_plan import model_plan
from connectomebench.hub.options import PublishConfig
from connectomebench.hub.remote import check_branch_name, check_repo_id, read_repo
from connectomebench.hub.results_plan import results_plan
from connectomebench.hub.space_plan import space_plan
from connectomebench.hub.targets import Target, find_targets

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

_log = logging.getLogger(__name__)

# files are sent in portions of this size, so that a publication shows how far it is; what was sent is not sent again
PORTION_BYTES = 2_000_000_000

_PLANS = {"dataset": dataset_plan, "model": model_plan, "results": results_plan, "space": space_plan}


def publish(
    folder: Path,
    repo: str | None = None,
    org: str | None = None,
    options: PublishConfig | None = None,
    *,
    dry_run: bool = False,
    report: Callable[[str], None] = print,
) -> None:
    """Publish a dataset, a model, result records, a metric or a Space, or all of one kind in a folder.

    All are compared with the Hub and validated before anything is sent.

    Parameters
    ----------
    folder
        What to publish; see :func:`connectomebench.hub.targets.find_targets`.
    repo, org
        ``ORG/NAME``, or the owner of repositories named after their content; give one of the two.
    options
        Defaults if None.
    dry_run
        Report the changes without making them. Without a network, they are those to an empty repository.
    report
        Receives the lines to show.

    Raises
    ------
    ConnectomeBenchError
        If validation or the Hub refuses something, or the connection is lost.

    Examples
    --------
    Say what would change on the Hub, without changing anything:

    >>> from pathlib import Path
    >>> from connectomebench import publish
    >>> publish(Path("out/merge_action"), org="your-org", dry_run=True)  # doctest: +SKIP
    """
    from huggingface_hub import HfApi

    options = options or PublishConfig()
    check_branch_name(options.branch)
    targets = find_targets(folder, repo, org)
    for target in targets:
        check_repo_id(target.repo_id)
    _check_options(targets, options)
    api = HfApi(library_name="connectomebench")
    if not dry_run:
        with hub_errors(targets[0].repo_id):
            api.whoami()
    if dry_run:
        _report_plans(api, targets, options, report)
        return
    plans = [_plan(api, target, options) for target in targets]
    for target, plan in zip(targets, plans, strict=True):
        if plan.is_empty:
            report(f"{plan.remote.repo_id}: nothing to change")
        else:
            report(_send(api, plan if plan.remote.exists else _create(api, target, plan, options)))


def _report_plans(api: HfApi, targets: list[Target], options: PublishConfig, report: Callable[[str], None]) -> None:
    """Report what would change; against empty repositories where the Hub gives no answer."""
    try:
        plans = [_plan(api, target, options) for target in targets]
    except HubUnreachable as error:
        plans = [_plan(None, target, options) for target in targets]
        report(f"the Hub cannot be asked, so this is the plan for an empty repository: {error}")
    for plan in plans:
        report(as_text(plan))
    report("dry run: nothing was changed")


def _create(api: HfApi, target: Target, plan: PublicationPlan, options: PublishConfig) -> PublicationPlan:
    """Create a repository, and return the plan for it.

    Someone else may have created it meanwhile, and put something into it: what is there then counts like in any other
    repository, so all is planned again. The commit has a parent that guards it.
    """
    with hub_errors(target.repo_id):
        api.create_repo(
            target.repo_id, repo_type=target.repo_type, private=plan.private, space_sdk=plan.sdk, exist_ok=True
        )
        made = read_repo(api, target.repo_id, plan.remote.repo_type, options.branch, plan.tag)
    if made.own_files or made.private != plan.private:
        return _plan(api, target, options)
    return replace(plan, remote=made)


def _check_options(targets: list[Target], options: PublishConfig) -> None:
    given = {"--results": options.results, "--dataset": options.datasets or None}
    for name, value in given.items():
        if value is not None and targets[0].kind != "model":
            raise ConnectomeBenchError(f"{name} is for models, and {targets[0].folder} is a {targets[0].kind}")
    for name in options.datasets:
        check_repo_id(name)


def _plan(api: HfApi | None, target: Target, options: PublishConfig) -> PublicationPlan:
    with hub_errors(target.repo_id):
        return _PLANS[target.kind](api, target.folder, target.repo_id, options)


def as_text(plan: PublicationPlan) -> str:
    """Format a plan: one line per file with its size, and the changes to repository and tag."""
    remote = plan.remote
    if not remote.asked:
        state = f"a {'private' if plan.private else 'public'} {remote.repo_type}; what is there now is not known"
    elif not remote.exists:
        state = (
            f"a new {'private' if plan.private else 'public'} {remote.repo_type}, or one that your login may not see"
        )
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
        lines.append(f"  tag {plan.tag} {'is made' if remote.tagged is None else 'moves'}")
    return "\n".join([*lines, "  nothing to change"] if plan.is_empty else lines)


def size_text(n_bytes: int) -> str:
    """Format a number of bytes: ``17 B``, ``4.2 MB``."""
    if n_bytes < 1000:
        return f"{n_bytes} B"
    size = float(n_bytes)
    for unit in ("kB", "MB", "GB", "TB"):
        size /= 1000
        if size < 999.95 or unit == "TB":
            break
    return f"{size:.1f} {unit}"


def _send(api: HfApi, plan: PublicationPlan) -> str:
    """Carry out a plan and return a one-line summary."""
    from huggingface_hub import CommitOperationDelete

    remote, repo_id, repo_type = plan.remote, plan.remote.repo_id, plan.remote.repo_type
    with hub_errors(repo_id):
        if not remote.has_branch:
            api.create_branch(repo_id, branch=remote.branch, repo_type=repo_type, revision=remote.head, exist_ok=True)
        done: list[str] = []
        commit = remote.head
        if plan.changes:
            additions = _send_large(api, plan)
            deletions = [CommitOperationDelete(c.path, is_folder=False) for c in plan.changes if c.kind == "delete"]
            commit = api.create_commit(
                repo_id,
                [*deletions, *additions],
                commit_message=plan.summary,
                commit_description=plan.description,
                repo_type=repo_type,
                revision=remote.branch,
                parent_commit=remote.head,
            ).oid
            done = [f"{n} {kind}" for kind, n in _counts(plan).items()] + [f"commit {commit[:8]}"]
        if not remote.has_branch:
            done.append(f"branch {remote.branch}")
        if plan.tag is not None and plan.moves_tag:
            if remote.tagged is not None:
                api.delete_tag(repo_id, tag=plan.tag, repo_type=repo_type)
            api.create_tag(repo_id, tag=plan.tag, revision=commit, repo_type=repo_type, exist_ok=True)
            done.append(f"tag {plan.tag}")
    return f"{repo_id}: {', '.join(done)}"


def _counts(plan: PublicationPlan) -> dict[str, int]:
    verbs = {"add": "added", "change": "changed", "delete": "deleted"}
    counts = {verb: sum(change.kind == kind for change in plan.changes) for kind, verb in verbs.items()}
    return {verb: n for verb, n in counts.items() if n}


def _send_large(api: HfApi, plan: PublicationPlan) -> list[CommitOperationAdd]:
    """Upload the files in portions and return the additions for the commit.

    The Hub keeps what is sent before there is a commit, so a publication that was cut short goes on with what is
    missing, and the commit is still one. Small files travel in the commit itself.
    """
    from huggingface_hub import CommitOperationAdd

    remote = plan.remote
    done = 0
    total = sum(change.size for change in plan.changes if isinstance(change.content, Path))
    additions: list[CommitOperationAdd] = []
    for portion in _portions(plan):
        ready = [CommitOperationAdd(c.path, c.content) for c in portion if c.content is not None]
        api.preupload_lfs_files(
            remote.repo_id, ready, repo_type=remote.repo_type, revision=remote.branch, free_memory=False
        )
        additions += ready
        done += sum(c.size for c in portion)
        _log.info("%s: %s of %s sent", remote.repo_id, size_text(done), size_text(total))
    additions += [CommitOperationAdd(c.path, c.content) for c in plan.changes if isinstance(c.content, bytes)]
    return additions


def _portions(plan: PublicationPlan) -> Iterator[list[FileChange]]:
    portion: list[FileChange] = []
    for change in plan.changes:
        if not isinstance(change.content, Path):
            continue
        if portion and sum(c.size for c in portion) + change.size > PORTION_BYTES:
            yield portion
            portion = []
        portion.append(change)
    if portion:
        yield portion
