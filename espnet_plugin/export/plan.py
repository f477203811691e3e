"""What a published repository holds: which file goes where, and that none of it is secret."""

from __future__ import annotations

import hashlib
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.checkpoint import read_json, sha256_file
from espnet_plugin.export import RECORD
from espnet_plugin.export.espnet import CONFIG, META
from espnet_plugin.export.formats import target
from espnet_plugin.export.usage import folder_of

CARD = "README.md"
TEXT_LIMIT = 20 << 20  # bytes: files up to this size are searched for secrets
# Access tokens by their shape: Hugging Face, GitHub, OpenAI, AWS; and private keys.
SECRETS = re.compile(
    rb"hf_[A-Za-z0-9]{30,}|gh[pousr]_[A-Za-z0-9]{30,}|sk-[A-Za-z0-9_-]{32,}|AKIA[0-9A-Z]{16}"
    rb"|-----BEGIN [A-Z ]*PRIVATE KEY-----"
)


@dataclass(frozen=True)
class Item:
    """One file of a repository.

    Attributes:
        path: Its path there.
        content: The local file, or the bytes themselves.
        size: Bytes.
        sha256: Of its content.
    """

    path: str
    content: Path | bytes
    size: int
    sha256: str

    @classmethod
    def of(cls, path: str, content: Path | bytes) -> Item:
        """Measure a file or bytes."""
        if isinstance(content, bytes):
            return cls(path, content, len(content), hashlib.sha256(content).hexdigest())
        return cls(path, content, content.stat().st_size, sha256_file(content))

    def data(self) -> bytes:
        """Return the content."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    def git_sha1(self) -> str:
        """Return git's hash of it as a blob, by which a hub knows small files."""
        data = self.data()
        head = f"blob {len(data)}\0".encode()
        return hashlib.sha1(head + data, usedforsecurity=False).hexdigest()


def plan(exports: Sequence[Path], card: str) -> list[Item]:
    """Lay out a repository.

    The Hugging Face export is its root; ESPnet's two small files join it there, so that ESPnet
    loads the repository by its name, without a second copy of the weights. Others have folders.

    Args:
        exports: Directories of exports, one of them to ``hf``.
        card: The model card.

    Raises:
        FileNotFoundError: An export has no record.
        ValueError: There is no ``hf`` among them; two go to one place; a file holds a secret.
    """
    items: dict[str, Item] = {CARD: Item.of(CARD, card.encode())}
    packed: list[Path] = []
    for directory in exports:
        record = read_json(directory / RECORD)
        made = target(record["format"], record["dtype"])
        if made.format.name == "espnet":
            packed.append(directory / str(made.format.file))
            continue
        folder = folder_of(made.name)
        for name in record["files"]:
            path = f"{folder}/{name}" if folder else name
            if path in items:
                raise ValueError(f"{directory}: {path} would be published twice; name one export")
            items[path] = Item.of(path, directory / name)
    if "model.safetensors" not in items:
        raise ValueError("an export to hf is missing: it is the root of a repository")
    for path in packed:
        _add_espnet(items, path)
    found = [items[name] for name in sorted(items)]
    for item in found:
        _check_secrets(item)
    return found


def _add_espnet(items: dict[str, Item], path: Path) -> None:
    """Add what ESPnet reads besides the Hugging Face export.

    Raises:
        ValueError: The zip holds other weights or settings than that export.
    """
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name in (CONFIG, META):
                items[name] = Item.of(name, archive.read(name))
                continue
            with archive.open(name) as member:
                digest = hashlib.file_digest(member, "sha256").hexdigest()  # type: ignore[arg-type]
            if name not in items or items[name].sha256 != digest:
                raise ValueError(
                    f"{path}: {name} is not that of the export to hf, which it is to share its "
                    "weights with; export both with the same dtype"
                )


def _check_secrets(item: Item, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse a file in which an access token lies.

    Raises:
        ValueError: There is one; the message does not repeat it.
    """
    if item.size > TEXT_LIMIT:
        return
    data = item.data()
    known = [environment.get(name, "") for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")]
    if SECRETS.search(data) or any(token and token.encode() in data for token in known):
        raise ValueError(f"{item.path}: holds what looks like an access token; nothing is uploaded")
