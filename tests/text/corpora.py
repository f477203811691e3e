"""A small corpus with everything that can happen to a line, and its stores' bytes."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.text.corpus.config import CorpusConfig
from espnet_plugin.text.corpus.pipeline import beside, build
from espnet_plugin.text.corpus.plan import Plan
from espnet_plugin.text.corpus.report import Report
from espnet_plugin.text.executors import Executor, LocalExecutor

MALAY = ("saya", "nak", "pergi", "makan", "nasi", "lemak", "dengan", "kawan", "dekat", "rumah")
ENGLISH = ("please", "book", "the", "flight", "before", "everyone", "wants", "to", "leave", "early")
LANG_TOKENS = (("cs", "ms"), ("ms", "ms"), ("en", "en"))
SMALL = {"block_bytes": 4096, "shard_lines": 60, "valid_share": 0.1}


def write_corpus(path: Path, lines: int = 500) -> Path:
    """Write lines of Malay, English and both, some of them repeated, blank or no UTF-8."""
    rng = np.random.default_rng(3)
    made: list[bytes] = []
    for number in range(lines):
        words = [(MALAY, ENGLISH)[number % 2], MALAY, ENGLISH][: 1 + number % 3]
        drawn = [rng.choice(w, int(rng.integers(2, 6))) for w in words]
        line = " ".join([*np.concatenate(drawn), f"{number}"]).encode()
        match number % 50:
            case 7:
                line = made[int(rng.integers(len(made)))]
            case 11:
                line = b"  "
            case 13:
                line += b" \xff"
            case 17:
                line += b" https://contoh.my/a"
        made.append(line)
    path.write_bytes(b"\n".join(made) + b"\n")
    return path


def plan_of(folder: Path, model: Path, lang: str | None = None, **settings: Any) -> Plan:
    """Make a plan whose stores are `folder/train` and `folder/valid`."""
    config = CorpusConfig(**(SMALL | settings))
    return Plan(config, str(model), LANG_TOKENS, lang, str(beside(folder / "train", "work")))


def build_stores(
    folder: Path,
    model: Path,
    *inputs: Path,
    executor: Executor | None = None,
    valid: bool = True,
    keep_work: bool = False,
    lang: str | None = None,
    **settings: Any,
) -> Report | None:
    """Build the stores of a plan."""
    outputs = {"train": folder / "train"} | ({"valid": folder / "valid"} if valid else {})
    plan = plan_of(folder, model, lang, **settings)
    with executor or LocalExecutor(1) as chosen:
        return build(inputs, outputs, plan, chosen, keep_work)


def bytes_of(folder: Path) -> dict[str, str]:
    """Return the hash of every file of the stores in a folder, by name."""
    files = [p for part in ("train", "valid") for p in (folder / part).rglob("*") if p.is_file()]
    return {str(p.relative_to(folder)): sha256(p.read_bytes()).hexdigest() for p in files}
