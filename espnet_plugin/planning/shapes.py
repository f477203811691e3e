"""Sizes of a Whisper model: by name, or from a model directory; its parameters on no device."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.cli import nearest
from espnet_plugin.groups import group_of

# Width, encoder layers, decoder layers, heads, vocabulary, mel bins.
# Source: openai-whisper's model card and the configurations of the released checkpoints.
NAMES: dict[str, tuple[int, int, int, int, int, int]] = {
    "tiny": (384, 4, 4, 6, 51865, 80),
    "base": (512, 6, 6, 8, 51865, 80),
    "small": (768, 12, 12, 12, 51865, 80),
    "medium": (1024, 24, 24, 16, 51865, 80),
    "large": (1280, 32, 32, 20, 51865, 80),
    "large-v2": (1280, 32, 32, 20, 51865, 80),
    "large-v3": (1280, 32, 32, 20, 51866, 128),
    "turbo": (1280, 32, 4, 20, 51866, 128),
}


@dataclass(frozen=True)
class Shape:
    """The sizes that decide how much memory a model takes.

    Attributes:
        name: As given.
        width: Of the states, D.
        encoder_layers: Number of them.
        decoder_layers: Number of them.
        encoder_heads: Attention heads of an encoder layer.
        decoder_heads: Attention heads of a decoder layer.
        encoder_ffn: Width inside an encoder layer's feed-forward part.
        decoder_ffn: Width inside a decoder layer's.
        vocab: Entries of the vocabulary.
        mels: Mel bins.
        positions: Encoder positions of 30 s, 20 ms each.
        tokens: Decoder positions.
        lora: Ranks of adapters by group.
    """

    name: str
    width: int
    encoder_layers: int
    decoder_layers: int
    encoder_heads: int
    decoder_heads: int
    encoder_ffn: int
    decoder_ffn: int
    vocab: int
    mels: int
    positions: int = 1500
    tokens: int = 448
    lora: tuple[tuple[str, int], ...] = ()

    @functools.cached_property
    def ranks(self) -> Mapping[str, int]:
        """Ranks of adapters by linear layer."""
        return {
            name.removesuffix(".lora_A.weight"): size // self._width_into(name)
            for name, size in parameters(self).items()
            if name.endswith(".lora_A.weight")
        }

    def _width_into(self, name: str) -> int:
        inner = self.encoder_ffn if name.startswith("encoder") else self.decoder_ffn
        return inner if ".fc2." in name else self.width

    def settings(self) -> dict[str, int]:
        """Return the fields of transformers' `WhisperConfig` that make parameters."""
        return {
            "d_model": self.width,
            "encoder_layers": self.encoder_layers,
            "decoder_layers": self.decoder_layers,
            "encoder_attention_heads": self.encoder_heads,
            "decoder_attention_heads": self.decoder_heads,
            "encoder_ffn_dim": self.encoder_ffn,
            "decoder_ffn_dim": self.decoder_ffn,
            "vocab_size": self.vocab,
            "num_mel_bins": self.mels,
            "max_source_positions": self.positions,
            "max_target_positions": self.tokens,
        }


def read_shape(model: str) -> Shape:
    """Find a model's sizes.

    Args:
        model: A name of `NAMES`, or a Hugging Face Whisper directory (only `config.json` is read).

    Raises:
        FileNotFoundError: It is neither; the message lists the names.
        ValueError: The directory's `config.json` is not that of a Whisper model.
    """
    known = model.lower().removeprefix("openai/").removeprefix("whisper-")
    known = {"large-v3-turbo": "turbo", "large-v1": "large"}.get(known, known)
    if known in NAMES and not Path(model).is_dir():
        width, encoder, decoder, heads, vocab, mels = NAMES[known]
        ffn = 4 * width
        return Shape(known, width, encoder, decoder, heads, heads, ffn, ffn, vocab, mels)
    if not Path(model).is_dir():
        raise FileNotFoundError(
            f"{model}: no such model directory, and not a known size{nearest(known, NAMES)}; "
            f"sizes are {', '.join(NAMES)}"
        )
    from espnet_plugin.checkpoint import load_config

    config = load_config(model)
    wanted = Shape("", 0, 0, 0, 0, 0, 0, 0, 0, 0).settings()
    if missing := [key for key in wanted if type(config.get(key)) is not int or config[key] < 1]:
        found = config.get(missing[0], "nothing")
        raise ValueError(f"{model}/config.json: {missing[0]} is {found}, expected a whole number")
    return Shape(
        name=Path(model).name,
        width=config["d_model"],
        encoder_layers=config["encoder_layers"],
        decoder_layers=config["decoder_layers"],
        encoder_heads=config["encoder_attention_heads"],
        decoder_heads=config["decoder_attention_heads"],
        encoder_ffn=config["encoder_ffn_dim"],
        decoder_ffn=config["decoder_ffn_dim"],
        vocab=config["vocab_size"],
        mels=config["num_mel_bins"],
        positions=config["max_source_positions"],
        tokens=config["max_target_positions"],
    )


@functools.cache
def parameters(shape: Shape) -> Mapping[str, int]:
    """Count the elements of each parameter, from transformers' own module on the meta device.

    Returns:
        Elements by name, as `whisper.load_whisper` names them; the tied output projection is the
        embedding. Adapters are called after the layer that they adapt.
    """
    import torch
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperModel

    with torch.device("meta"):
        model = WhisperModel(WhisperConfig.from_dict({**shape.settings(), "pad_token_id": 0}))
    sizes = {name: math.prod(p.shape) for name, p in model.named_parameters()}
    ranks = dict(shape.lora)
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            rank = ranks.get(group_of(name + ".weight"), 0)
            for kind, width in (("A", module.in_features), ("B", module.out_features)):
                sizes |= {f"{name}.lora_{kind}.weight": rank * width} if rank else {}
    return sizes
