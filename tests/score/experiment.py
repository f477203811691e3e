"""A miniature experiment: decoded text of many systems, made by damaging the references."""

import json
import os
import random
from pathlib import Path

MALAY = ("saya", "nak", "makan", "nasi", "lemak", "kita", "boleh", "esok")
WORDS = (*MALAY, "the", "hotel", "room", "is", "very", "nice", "lah", "check", "out")
RATIOS = (0.4, 0.8)
# Share of wrong words of each system on each set.
DAMAGE = {
    "whisper_base": (0.9, 0.4),
    "init": (0.6, 0.15),
    "adapt_text": (0.4, 0.16),
    "adapt_full": (0.2, 0.25),
    "direct_full": (0.3, 0.3),
}
SETS = ("test_cs", "test_en")
VALID = "valid_paired"
CURVE = "epoch,updates,train_loss,valid_loss,valid_acc,seconds\n"


def damage_of(system: str, column: int) -> float:
    """Damage of a system: merges lie between init and what was merged, better in the middle."""
    if system in DAMAGE:
        return DAMAGE[system][column]
    ratio = float(system.rpartition("_")[2])
    tuned = DAMAGE["direct_full" if system.startswith("direct") else "adapt_full"][column]
    straight = (1 - ratio) * DAMAGE["init"][column] + ratio * tuned
    return straight - 0.15 * ratio * (1 - ratio)


SYSTEMS = [*DAMAGE, *(f"merge_{r}" for r in RATIOS), *(f"direct_merge_{r}" for r in RATIOS)]


def write_table(path: Path, table: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{k} {v}".rstrip() + "\n" for k, v in sorted(table.items())), "utf-8")


def build(root: Path, systems: list[str] | None = None, n_utt: int = 30, seed: int = 0) -> None:
    """Write dump/raw/<set> and exp/<system>/decode_greedy/<set> below `root`."""
    rng = random.Random(seed)
    for column, name in ((0, "test_cs"), (1, "test_en"), (0, VALID)):
        refs = {
            f"spk-{name}-{i:03d}": rng.choices(WORDS, k=rng.randint(4, 12)) for i in range(n_utt)
        }
        data = root / "dump/raw" / name
        write_table(data / "text", {u: " ".join(w).capitalize() + "." for u, w in refs.items()})
        write_table(data / "utt2lang", dict.fromkeys(refs, "en" if name == "test_en" else "cs"))
        if name == "test_cs":
            tags = {u: " ".join("ms" if x in MALAY else "en" for x in w) for u, w in refs.items()}
            write_table(data / "utt2tags", tags)
            conditions = {u: ("clean", "noise")[i % 2] for i, u in enumerate(refs)}
            write_table(data / "utt2cond", conditions)
        for system in systems or SYSTEMS:
            share = damage_of(system, column)
            hyps = {
                u: " ".join("salah" if rng.random() < share else x for x in w)
                for u, w in refs.items()
            }
            decoded = root / "exp" / system / "decode_greedy" / name
            write_table(decoded / "text", hyps)
            (decoded / "decode.json").write_text(json.dumps({"n_utt": n_utt, "rtfx": 12.5}))


def build_training(root: Path, systems: tuple[str, ...]) -> None:
    """Write the curves and freeze proofs of finished stages."""
    for system in systems:
        directory = root / "exp" / system
        directory.mkdir(parents=True, exist_ok=True)
        rows = "".join(
            f"{e},{40 * e},{3 / (e + 1)},{3.2 / (e + 1) + 0.02 * e * e},0.5,9\n"
            for e in range(1, 7)
        )
        (directory / "curve.csv").write_text(CURVE + "0,0,,3.5,0.1,1.0\n" + rows)
        proof = {"identical": True, "frozen": 12, "changed": 30}
        (directory / "freeze_proof.json").write_text(json.dumps(proof))
        (directory / "model.safetensors").write_bytes(system.encode())
        os.utime(directory / "model.safetensors", (1, 1))  # before it was decoded


def build_words(root: Path) -> None:
    """Write the training texts: `hotel` and `esok` occur in text only."""
    spoken = [w for w in WORDS if w not in ("hotel", "esok")]
    write_table(root / "dump/raw/train_paired/text", {"spk-1": " ".join(spoken)})
    write_table(root / "dump/raw/train_paired/utt2lang", {"spk-1": "cs"})
    lines = [{"text": "Hotel itu, esok!", "lang": "cs"}, {"text": "saya nak", "lang": "ms"}]
    path = root / "data/text/train.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
