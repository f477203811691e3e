"""Whisper from a model hub, through huggingface_hub and its cache."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from espnet_plugin.checkpoint import INDEX, WEIGHTS
from espnet_plugin.importers.huggingface import PICKLED, read_hugging_face
from espnet_plugin.importers.source import Source

SMALL = (
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "normalizer.json",
    "vocab.json",
    "merges.txt",
)
# Not model.fp32-*.safetensors, which some repositories hold beside the fp16 ones.
SAFE = (*SMALL, WEIGHTS, INDEX, "model-[0-9]*.safetensors")
OLD = (*SMALL, PICKLED, PICKLED + ".index.json", "pytorch_model-[0-9]*.bin")
ALTERNATIVES = (
    "without a hub, give a local source: a Hugging Face directory, an openai-whisper .pt file, a "
    "CTranslate2 directory, a packed ESPnet .zip, or 'demo' (Whisper base from the package index)"
)


def offline() -> bool:
    """Tell whether ``HF_HUB_OFFLINE`` (or ``TRANSFORMERS_OFFLINE``) forbids the network."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return any(os.environ.get(n, "").upper() in ("1", "ON", "YES", "TRUE") for n in names)


def endpoint() -> str | None:
    """Return the hub's address from ``HF_ENDPOINT``, None for the default."""
    return os.environ.get("HF_ENDPOINT") or None


def snapshot(repo: str, revision: str | None = None, *, local_only: bool = False) -> Path:
    """Fetch the files of a model that an import needs, into the hub's cache.

    Args:
        repo: ``owner/name``.
        revision: A branch, tag or commit; None is the main branch.
        local_only: Only look into the cache.

    Returns:
        The directory of the snapshot, complete.

    Raises:
        FileNotFoundError: The hub cannot be reached, has no such model, or the cache lacks a file.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    local_only = local_only or offline()
    for patterns in (SAFE, OLD):  # the old format only where there is no other
        try:
            directory = Path(
                snapshot_download(
                    repo,
                    revision=revision,
                    allow_patterns=list(patterns),
                    local_files_only=local_only,
                    endpoint=endpoint(),
                )
            )
        except LocalEntryNotFoundError as error:
            if local_only:
                why = "HF_HUB_OFFLINE is set and " if offline() else ""
                message = f"{repo}: {why}the hub's local cache does not have it"
            else:
                message = f"{repo}: the hub cannot be reached ({_cause(error)})"
            raise FileNotFoundError(f"{message}; {ALTERNATIVES}") from None
        except HfHubHTTPError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            at = f" at revision {revision}" if revision else ""
            raise FileNotFoundError(
                f"{repo}{at}: the hub has no such model for you ({' '.join(lines[:2])})"
            ) from None
        except OSError as error:  # connection errors of the HTTP client among them
            raise FileNotFoundError(
                f"{repo}: fetching failed ({_cause(error)}); {ALTERNATIVES}"
            ) from None
        if complete(directory):
            return directory
    raise FileNotFoundError(
        f"{repo}: {directory} lacks its weights or its configuration; {ALTERNATIVES}"
    )


def complete(directory: Path) -> bool:
    """Tell whether a snapshot has a configuration, a tokenizer and all of its weights."""
    from espnet_plugin.importers.huggingface import weight_files

    try:
        weight_files(directory)
    except FileNotFoundError:
        return False
    tokenizer = any((directory / n).is_file() for n in ("tokenizer.json", "vocab.json"))
    return tokenizer and (directory / "config.json").is_file()


def _cause(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def reachable(repo: str, seconds: float) -> str | None:
    """Ask the hub about a model, for at most so many seconds.

    Returns:
        None if it answered that it has the model, else the reason why it is not used.
    """
    from huggingface_hub import HfApi

    if offline():
        return "HF_HUB_OFFLINE is set"
    answer: list[str | None] = []

    def ask() -> None:
        try:
            HfApi(endpoint=endpoint()).model_info(repo, timeout=seconds)
            answer.append(None)
        except Exception as error:  # whatever it is, it is the reason that the caller reports
            answer.append(_cause(error))

    # A thread, because looking a name up has no time limit of its own.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return answer[0] if answer else f"no answer within {seconds:g} s"


def read_hub(repo: str, revision: str | None = None) -> Source:
    """Read a Whisper model from the hub or its local cache.

    Raises:
        FileNotFoundError: It can be had from neither; the message names local alternatives.
        ValueError: It is not a Whisper model.
    """
    directory = snapshot(repo, revision)
    source = read_hugging_face(directory)
    source.where = repo
    source.road = "hub cache (offline)" if offline() else "hub"
    source.notes["commit"] = directory.name
    return source
