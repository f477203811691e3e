import dataclasses

import pytest
import torch

from espnet_plugin.checkpoint import load_state, save_model_dir
from espnet_plugin.decode.rules import TokenRules
from espnet_plugin.features import LogMel
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.whisper import encode, load_whisper


@pytest.fixture(scope="session")
def lively(tiny_whisper, tmp_path_factory):
    """A random Whisper repeats one token; sharper scores and louder positions make it lively."""
    state = load_state(tiny_whisper)
    state["model.decoder.embed_positions.weight"] *= 10
    for name in ("weight", "bias"):
        state[f"model.decoder.layer_norm.{name}"] *= 4
    return save_model_dir(state, tiny_whisper, tmp_path_factory.mktemp("models") / "lively")


@pytest.fixture(scope="session")
def whisper(lively):
    return load_whisper(lively).eval()


@pytest.fixture(scope="session")
def prompt(lively):
    return PromptBuilder(lively)


@pytest.fixture(scope="session")
def rules(prompt, whisper):
    """It hardly ever ends, either: help it, so that utterances end at different steps."""
    plain = TokenRules.of(prompt, whisper.config.vocab_size)
    bias = plain.bias.clone()
    bias[plain.end] += 12
    return dataclasses.replace(plain, bias=bias)


def noise(seconds: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    n = int(seconds * 16000)
    tone = torch.sin(torch.arange(n) * 0.03 * (seed + 1))
    return 0.3 * tone + 0.1 * torch.randn(n, generator=generator)


@pytest.fixture(scope="session")
def waves():
    return [noise(s, i) for i, s in enumerate((1.3, 0.4, 2.1, 0.05, 1.0, 1.7))]


def encoded(whisper, waves, pad="batch"):
    lengths = torch.tensor([len(w) for w in waves])
    speech = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True)
    features, frames = LogMel(whisper.config.num_mel_bins)(speech, lengths, pad)
    with torch.no_grad():
        return encode(whisper, features, frames)
