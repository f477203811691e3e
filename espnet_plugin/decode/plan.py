"""What is to be decoded, what is done already, and the files of a finished set."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import (
    atomic_write,
    load_config,
    model_dir_exists,
    read_json,
    sha256_file,
    tensor_hashes,
    write_json,
)
from espnet_plugin.cli import nearest
from espnet_plugin.decode.audio import Utterance, set_hash
from espnet_plugin.decode.options import Options
from espnet_plugin.groups import group_of
from espnet_plugin.stages import made_by

PARTIAL = "partial.jsonl"
RECORD = "decode.json"
# Of a configuration, what says nothing about the architecture.
INCIDENTAL = {"dtype", "torch_dtype", "_name_or_path", "transformers_version", "architectures"}


@dataclass(frozen=True)
class System:
    """A model: a directory, or two that are merged in memory.

    Attributes:
        name: Its name under the experiment directory.
        path: The directory; of a merge in memory, where its results go.
        model: SHA-256 over all tensors.
        encoder: SHA-256 over the encoder's; systems with the same one share its outputs.
        kind: SHA-256 over architecture and tokenizer; systems with the same one share a module.
        merge: Directories of the original and the adapted model, and the ratio of a merge in
            memory.
    """

    name: str
    path: Path
    model: str
    encoder: str
    kind: str
    merge: tuple[Path, Path, float] | None = None

    @property
    def source(self) -> Path:
        """Directory of the configuration and the tokenizer."""
        return self.merge[0] if self.merge else self.path

    @classmethod
    def of(
        cls, expdir: str | Path, name: str, merges: Mapping[str, tuple[str, str]] | None = None
    ) -> "System":
        """Hash a system.

        Args:
            expdir: Where it is.
            name: Its directory there.
            merges: Systems that need no directory: by the prefix of their names, before the ratio,
                those of the original and the adapted model.

        Raises:
            FileNotFoundError: If there is none; says which recipe stage makes it.
            ValueError: If a merge's models do not fit each other, or its ratio is not within 0..1.
        """
        path = Path(expdir) / name
        if not model_dir_exists(path):
            for prefix, (base, tuned) in (merges or {}).items():
                ratio = name.removeprefix(prefix)
                if name.startswith(prefix) and re.fullmatch(r"[01](\.[0-9]+)?", ratio):
                    return cls._merged(Path(expdir), name, base, tuned, float(ratio))
            there = sorted(p.name for p in Path(expdir).glob("*") if model_dir_exists(p))
            hint = nearest(name, there)
            raise FileNotFoundError(f"{path} is not a model directory{hint}: {made_by(name)}")
        return cls._of_hashes(name, path, tensor_hashes(path))

    @classmethod
    def _merged(cls, expdir: Path, name: str, base: str, tuned: str, ratio: float) -> "System":
        from espnet_plugin.merge import Sweep

        for one in (base, tuned):
            if not model_dir_exists(expdir / one):
                raise FileNotFoundError(
                    f"{expdir / one} is not a model directory, and {name} is merged from it: "
                    f"{made_by(one)}"
                )
        merge = (expdir / base, expdir / tuned, ratio)
        return cls._of_hashes(name, expdir / name, Sweep(*merge[:2]).hashes(ratio), merge)

    @classmethod
    def _of_hashes(
        cls,
        name: str,
        path: Path,
        hashes: dict[str, str],
        merge: tuple[Path, Path, float] | None = None,
    ) -> "System":
        source = merge[0] if merge else path
        encoder = {n: h for n, h in hashes.items() if group_of(n) == "encoder"}
        config = {k: v for k, v in load_config(source).items() if k not in INCIDENTAL}
        tokenizer = source / "tokenizer.json"
        if not tokenizer.is_file():
            raise FileNotFoundError(f"{source} holds no tokenizer.json: import it (recipe stage 5)")
        kind = _hash({"config": config, "tokenizer": sha256_file(tokenizer)})
        return cls(name, path, _hash(hashes), _hash([encoder, kind]), kind, merge)


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@dataclass
class Job:
    """One system on one set.

    Attributes:
        system: The model.
        set_name: The set.
        output: `exp/<system>/decode_<tag>/<set>`.
        options: How it is decoded.
        key: What the result depends on; a result with another key is not reused.
        utterances: All of the set.
        texts: Hypotheses so far.
        limited: Utterances whose end the length limit forced.
        loops: Utterances that repeated themselves: whether they were `retried` or `kept`.
        seconds: Time so far: features, encoder and search.
    """

    system: System
    set_name: str
    output: Path
    options: Options
    key: dict[str, Any]
    utterances: list[Utterance]
    texts: dict[str, str] = field(default_factory=dict)
    limited: list[str] = field(default_factory=list)
    loops: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def state(self) -> str:
        """Return `done`, `new`, or `stale` (decoded, but something it depends on has changed)."""
        info, text = self.output / RECORD, self.output / "text"
        if not info.is_file() or not text.is_file():
            return "new"
        found = read_json(info)
        same = all(found.get(name) == value for name, value in self.key.items())
        return "done" if same and found.get("text_sha256") == sha256_file(text) else "stale"

    def resume(self) -> None:
        """Take up what an interrupted run has left, or begin a new file for it."""
        path = self.output / PARTIAL
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        if lines and _json_or_none(lines[0]) == self.key:
            entries = [entry for line in lines[1:] if (entry := _json_or_none(line)) is not None]
        else:
            entries = []
        with atomic_write(path, "w") as file:  # without a line that was cut off
            for entry in (self.key, *entries):
                file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        for entry in entries:
            self._take(entry)

    def add(
        self, texts: dict[str, str], limited: Sequence[str], loops: dict[str, str], seconds: float
    ) -> None:
        """Note the hypotheses of a batch, on disk as well."""
        entry = {"texts": texts, "limited": list(limited), "loops": loops, "seconds": seconds}
        with open(self.output / PARTIAL, "a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")
        self._take(entry)

    def _take(self, entry: dict[str, Any]) -> None:
        self.texts.update(entry["texts"])
        self.limited += entry["limited"]
        self.loops.update(entry["loops"])
        self.seconds += entry["seconds"]

    @property
    def complete(self) -> bool:
        """True when every utterance has a hypothesis."""
        return len(self.texts) == len(self.utterances)

    def finish(self, about: dict[str, Any]) -> dict[str, Any]:
        """Write `text` and `decode.json`, each atomically; returns the latter's content."""
        with atomic_write(self.output / "text", "w") as file:
            file.writelines(f"{u.utt} {self.texts[u.utt]}".rstrip() + "\n" for u in self.utterances)
        audio = sum(u.seconds for u in self.utterances)
        info = {
            "system": self.system.name,
            "set": self.set_name,
            "n_utt": len(self.utterances),
            "audio_seconds": round(audio, 3),
            "seconds": round(self.seconds, 3),
            "rtfx": round(audio / self.seconds, 3),
            "n_length_limited": len(self.limited),
            "length_limited": sorted(self.limited),
            "n_loops": len(self.loops),
            "loops": dict(sorted(self.loops.items())),
            **self.key,
            "text_sha256": sha256_file(self.output / "text"),
            **about,
        }
        write_json(self.output / RECORD, info)
        (self.output / PARTIAL).unlink(missing_ok=True)
        return info


def _json_or_none(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # the last line of a run that was killed
        return None


def jobs_of(
    systems: Sequence[System], sets: dict[str, list[Utterance]], tag: str, options: Options
) -> list[Job]:
    """Pair every system with every set.

    Raises:
        ValueError: If the tag cannot be part of a directory's name.
    """
    if not tag or set(tag) & set("/ \t\n"):
        raise ValueError(f"tag '{tag}': a name without spaces and slashes is needed")
    data = {name: set_hash(utterances) for name, utterances in sets.items()}
    return [
        Job(
            system,
            name,
            system.path / f"decode_{tag}" / name,
            options,
            {"model_hash": system.model, "data_hash": data[name], "options": asdict(options)},
            utterances,
        )
        for system in systems
        for name, utterances in sets.items()
    ]
