"""One tiny experiment, its clips and one verifier for all export tests: once decoded is enough."""

import json

import numpy as np
import pytest

from espnet_plugin.export import Verifier, export_model, target
from espnet_plugin.export.audio import Clip
from espnet_plugin.export.verify import Comparison, version_of

TOKENS = 8
SYSTEM = "merge_0.4"
TABLE = "cs:ms ms:ms en:en"


def song(seconds: float, seed: int) -> np.ndarray:
    """A wavering tone that comes and goes, with a little noise."""
    t = np.arange(int(seconds * 16000)) / 16000
    pitch = 200 + 150 * seed + 80 * np.sin(2 * np.pi * (1 + seed) * t)
    loud = np.sin(1.4 * np.pi * (seed + 1) * t) > 0
    tone = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / 16000) * loud
    return (tone + 0.02 * np.random.default_rng(seed).standard_normal(len(t))).astype(np.float32)


@pytest.fixture(scope="session")
def whisper_dir(tmp_path_factory):
    """openai-whisper's proportions; and louder where a random model would ignore the audio."""
    from espnet_plugin.checkpoint import load_state, read_json, save_model_dir, write_json
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    folder = tmp_path_factory.mktemp("export")
    plain = build_tiny_whisper(folder / "plain", ffn=64)
    settings = read_json(plain / "generation_config.json")
    write_json(plain / "generation_config.json", {**settings, "alignment_heads": [[1, 0]]})
    state = load_state(plain)
    state["model.decoder.embed_positions.weight"] *= 8
    for layer in (0, 1):
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            state[f"model.decoder.layers.{layer}.encoder_attn.{part}.weight"] *= 2
    for name in ("weight", "bias"):
        state[f"model.decoder.layer_norm.{name}"] *= 4
    return save_model_dir(state, plain, folder / "exp" / SYSTEM)


@pytest.fixture(scope="session")
def verifier():
    """Quiet; two languages, audio of several lengths."""
    clips = [Clip("utt-1", song(27, 1), "ms"), Clip("utt-2", song(14, 2), "en")]
    return Verifier(clips, TOKENS, log=lambda _: None)


@pytest.fixture(scope="session")
def exported(whisper_dir, verifier):
    """The model in three formats, verified with the real programs; each by its name."""
    return export_all(whisper_dir, whisper_dir.parent.parent / "verified", verifier)


class Trusting(Verifier):
    """Writes the record of a verification without the minute that programs take to start."""

    def compare(self, model_dir, exported, target):
        return Comparison(version_of(target), len(self.clips), 8, 0, ())


@pytest.fixture(scope="session")
def published(whisper_dir, verifier):
    """The same, not decoded, beside the model: for what only reads records and files."""
    return export_all(whisper_dir, whisper_dir, Trusting(verifier.clips, TOKENS, log=verifier.log))


def export_all(model, folder, verifier):
    paths = {name: folder / f"export_{name}" for name in ("hf", "openai", "ct2")}
    for name, path in paths.items():
        export_model(model, target(name), path, verifier, lambda _: None)
    return paths


def write(path, content) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))


@pytest.fixture(scope="session")
def expdir(whisper_dir):
    """The records that a run leaves around the model: how it was made, and its results."""
    from espnet_plugin.checkpoint import model_hash, tensor_hashes

    root = whisper_dir.parent
    sides = {side: {"path": f"/elsewhere/exp/{side}"} for side in ("init", "adapt_full")}
    merge = {"ratio": 0.4, "group_ratio": {"encoder": 0.2}}
    merge |= {"base": sides["init"], "tuned": sides["adapt_full"]}
    write(whisper_dir / "merge.json", merge)
    source = {"source": "openai/whisper-base", "commit": "c" * 40, "road": "hub"}
    write(root / "init/import.json", source)
    write(root / "adapt_text/training.json", {"stage": "adapt_text", "start": "exp/init"})
    write(root / "adapt_full/training.json", {"stage": "adapt_full", "start": "exp/adapt_text"})
    for system in ("adapt_text", "adapt_full"):
        record = json.loads((root / system / "training.json").read_text())
        write(root / system / "training.json", {**record, "updates": 80, "kept_updates": 70})
    write(root / "adapt_text/plan.json", {"train_text": "dump/text/train"})
    write(root.parent / "dump/text/train/manifest.json", {"lines": 24000, "tokens": 332170})
    write(root / "adapt_full/plan.json", {"train_data": "/home/someone/dump/raw/train_paired"})
    tokens = "".join(f"- '<|{i}|>'\n" for i in range(3))
    config = f"output_dir: /home/someone/exp\ntoken_list:\n{tokens}lang_tokens: {TABLE}\n"
    config += (
        f"model_conf:\n    pad: batch\n    model_dir: /home/someone\n    lang_tokens: {TABLE}\n"
    )
    write(root / "adapt_full/config.yaml", config)
    for system in ("init", "adapt_text", "adapt_full"):
        write(root / system / "config.json", {})
    stats = {"name": "train_paired", "hours": 1.25, "utterances": 1234}
    write(root / "stats/stats.json", [stats])
    settings = {"tag": "greedy", "valid_sets": ["valid_paired"]}
    results = [
        dict(system=system, test_set=name, wer=wer, cer=wer / 3, n_utt=126, n_ref=1062, rtfx=9)
        | {"wer_ci95": [wer - 3.5, wer + 4]}
        for system, name, wer in (
            ("init", "test_cs", 43.41),
            (SYSTEM, "test_cs", 23.258),
            (SYSTEM, "valid_paired", 11.11),
        )
    ]
    meta = {"configuration": settings, "versions": {"torch": "2.14"}}
    write(root / "results.json", {"meta": meta, "results": results})
    decoded = {"options": {"pad": "batch"}, "model_hash": model_hash(tensor_hashes(whisper_dir))}
    write(whisper_dir / "decode_greedy/test_cs/decode.json", decoded)
    return root
