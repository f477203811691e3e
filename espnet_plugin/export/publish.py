"""Upload a model to a hub through huggingface_hub: private, resumable, and never half of it.

What the repository has already, by its hash, is not sent again. Large files are sent first, one
after the other, and join the repository in one commit at the end, so that a repository never holds
half a model, and an interrupted upload goes on with the files that are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import write_json
from espnet_plugin.export.plan import Item
from espnet_plugin.importers.hub import _cause, endpoint, offline

RECORD = "publish.json"
LARGE = 1 << 20  # bytes from which a file is sent apart
IGNORED = (".gitattributes",)


@dataclass(frozen=True)
class Remote:
    """What a repository holds.

    Attributes:
        exists: There is such a repository, and it may be seen.
        private: Who is not invited cannot see it.
        files: Hash by path: SHA-256 of large files, git's of others.
    """

    exists: bool
    private: bool
    files: dict[str, str]

    def has(self, item: Item) -> bool:
        """Tell whether a file is there as it is here."""
        known = self.files.get(item.path)
        return known is not None and known in (item.sha256, item.git_sha1())


def publish(
    items: Sequence[Item],
    repo: str,
    *,
    private: bool = True,
    dry_run: bool = False,
    record: Path | None = None,
    message: str = "Upload model",
    log: Callable[[str], None] = print,
) -> str | None:
    """Upload files to a model repository.

    The token is huggingface_hub's: ``HF_TOKEN``, or that of ``hf auth login``. It is neither an
    option nor ever written anywhere.

    Args:
        items: What to upload.
        repo: ``owner/name``.
        private: Make the repository private, where it has to be made.
        dry_run: Only say what would be sent.
        record: Where to note what was uploaded.
        message: Of the commit.
        log: Told what is done.

    Returns:
        The commit that holds everything; None for a dry run.

    Raises:
        ValueError: The hub is switched off or out of reach, there is no token, the repository is
            public against `private`, or the hub refuses.
    """
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError

    if repo.count("/") != 1 or not all(repo.split("/")):
        raise ValueError(f"repository '{repo}': owner/name is expected")
    if offline():
        if dry_run:
            log("HF_HUB_OFFLINE is set: the hub was not asked what it has already")
            _show(items, Remote(False, True, {}), repo, private, log)
            return None
        raise ValueError(
            f"HF_HUB_OFFLINE is set: nothing can be uploaded to {repo}. Unset it where the hub can "
            "be reached. Without a hub the exports are complete as they are: copy their "
            "directories, and load them by path (import_model --source DIRECTORY, from_pretrained)"
        )
    if get_token() is None and not dry_run:
        raise ValueError(
            "no access token: run 'hf auth login', or set HF_TOKEN in the environment (a token "
            "with the right to write)"
        )
    # What the hub answers, what its HTTP library raises without an answer, what wraps either.
    refused: Any = (OSError, RuntimeError, *HfHubHTTPError.__bases__)
    try:
        return _publish(items, repo, private, dry_run, record, message, log)
    except refused as error:
        response = getattr(error, "response", None)
        if response is None and not isinstance(error, RuntimeError):
            raise ValueError(
                f"{repo}: the hub cannot be reached ({_cause(error)}); the exports are complete as "
                "they are and load by path. HF_HUB_OFFLINE=1 with --dry_run shows what would go"
            ) from None
        what = "refuses the token" if response is not None and response.status_code == 401 else ""
        raise ValueError(
            f"{repo}: the hub {what or 'does not take it'} ({_reason(error)}). It keeps what was "
            "sent so far; run the same command again"
        ) from None


def _publish(
    items: Sequence[Item],
    repo: str,
    private: bool,
    dry_run: bool,
    record: Path | None,
    message: str,
    log: Callable[[str], None],
) -> str | None:
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint())
    remote = look(api, repo)
    if remote.exists and private and not remote.private:
        raise ValueError(
            f"{repo}: exists already and is public; give --private false to publish there, or "
            "make it private on the hub"
        )
    missing = _show(items, remote, repo, private, log)
    if dry_run:
        return None
    if not remote.exists:
        api.create_repo(repo, private=private, exist_ok=True)
        log(f"{repo}: made, {'private' if private else 'public'}")
    operations = []
    for number, item in enumerate(missing, 1):
        operation = CommitOperationAdd(item.path, item.content)
        if item.size >= LARGE:
            log(f"send {item.path} ({item.size / 1e6:.1f} MB, {number} of {len(missing)})")
            api.preupload_lfs_files(repo, [operation], free_memory=False)
        operations.append(operation)
    if operations:
        made: Any = api.create_commit(repo, operations, commit_message=message)
        commit = str(made.oid)
    else:
        commit = str(api.model_info(repo).sha)
    after = look(api, repo)
    if lost := [item.path for item in items if not after.has(item)]:
        raise ValueError(f"{repo}: after the upload {lost[0]} is not there as it is here")
    if record is not None:
        files = {item.path: item.sha256 for item in items}
        write_json(record, {"repo": repo, "commit": commit, "private": private, "files": files})
    log(f"{repo}: complete at commit {commit}; load it with revision={commit}")
    return commit


def look(api: Any, repo: str) -> Remote:
    """Ask a hub what a repository holds."""
    from huggingface_hub import RepoFile
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        private = bool(api.model_info(repo).private)
        entries = list(api.list_repo_tree(repo, recursive=True))
    except RepositoryNotFoundError:
        return Remote(False, True, {})
    files = {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id
        for entry in entries
        if isinstance(entry, RepoFile)
    }
    return Remote(True, private, files)


def _show(
    items: Sequence[Item], remote: Remote, repo: str, private: bool, log: Callable[[str], None]
) -> list[Item]:
    """Say what goes and what is there already; returns what is missing."""
    if remote.exists:
        kind = "private" if remote.private else "public"
    else:
        kind = f"to be made, {'private' if private else 'public'}"
    log(f"{repo} ({kind}):")
    missing = [item for item in items if not remote.has(item)]
    for item in items:
        state = "send" if item in missing else "there"
        log(f"  {state:5}  {item.size:>13,}  {item.sha256[:12]}  {item.path}")
    for path in sorted(set(remote.files) - {item.path for item in items} - set(IGNORED)):
        log(f"  other  {'':>13}  {'':12}  {path} (there, not ours: left as it is)")
    total = sum(item.size for item in missing)
    log(f"{len(missing)} of {len(items)} files to send, {total / 1e6:.1f} MB")
    return missing


def _reason(error: BaseException) -> str:
    """Say why in one line: the first cause, without addresses of requests."""
    response = getattr(error, "response", None)
    server = getattr(error, "server_message", None)
    if response is not None:
        return f"{response.status_code}{f': {server}' if server else ''}"
    if error.__cause__ is not None and isinstance(error, RuntimeError):
        return _reason(error.__cause__)
    return _cause(error)
