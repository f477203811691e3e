"""The programs that run exports, made to decode in the same way: one function each.

Programs differ in what they do around the model, so everything that changes a text is set, to what
all of them can do:

* 30 s of audio, padded with silence. (faster-whisper pads the features of shorter audio with
  zeros, which is louder than silence: it is given audio that is padded already.)
* the prompt: start, the language that is given, transcribe, no timestamps;
* greedy search, no fallback to sampling, no threshold on silence or repetition, no voice activity
  detection, no text of a window before;
* the same tokens are never written: those of the model's generation settings, timestamps, tokens
  of prompts, ids without a token; and at first neither the end nor a lone space;
* at most `Settings.max_tokens` tokens. (CTranslate2 halves its `max_length`, and 224 are what
  openai-whisper and faster-whisper stop at.)
* arithmetic in float32, but for int8, whose arithmetic is part of the format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_plugin.decode.options import Options
from espnet_plugin.decode.recognizer import Recognizer
from espnet_plugin.decode.rules import TokenRules
from espnet_plugin.decode.search import greedy
from espnet_plugin.decode.workers import check_device
from espnet_plugin.export.audio import Clip
from espnet_plugin.export.formats import Target
from espnet_plugin.features import N_SAMPLES, SAMPLE_RATE
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.tokenizer import read_generation

MAX_TOKENS = 224  # half of the decoder's positions, where openai-whisper and faster-whisper stop
PROMPT_TOKENS = 4
BATCH = 8


@dataclass(frozen=True)
class Settings:
    """How all runtimes decode.

    Attributes:
        banned: Ids of tokens that are never written.
        suppress: How our own decoder is told the same; see `decode.rules`.
        max_tokens: The most tokens of a text, 4 to 224.
        device: ``cpu`` or ``cuda``.
        integers: The weights are integers, and the format computes with them.
    """

    banned: tuple[int, ...]
    suppress: str
    max_tokens: int = MAX_TOKENS
    device: str = "cpu"
    integers: bool = False

    @classmethod
    def of(
        cls, model_dir: str | Path, max_tokens: int = MAX_TOKENS, device: str = "cpu"
    ) -> Settings:
        """Derive the settings from a model directory.

        Raises:
            ValueError: `max_tokens` is out of range, or there is no such device.
        """
        check_device(device)
        if not PROMPT_TOKENS <= max_tokens <= MAX_TOKENS:
            raise ValueError(f"max_tokens is {PROMPT_TOKENS} to {MAX_TOKENS}, got {max_tokens}")
        suppress = "whisper" if read_generation(model_dir).get("suppress_tokens") else "begin"
        prompt = PromptBuilder(model_dir)
        size = max(prompt.vocab.values()) + 1
        rules = TokenRules.of(prompt, size, suppress=suppress)
        banned = (rules.bias == -torch.inf).nonzero()[:, 0].tolist()
        return cls(tuple(banned), suppress, max_tokens, device)


def one_line(text: str) -> str:
    """Return a text with single spaces."""
    return " ".join(text.split())


def _batches(clips: Sequence[Clip]) -> list[list[Clip]]:
    return [list(clips[i : i + BATCH]) for i in range(0, len(clips), BATCH)]


@torch.inference_mode()
def ours(path: Path, clips: Sequence[Clip], settings: Settings) -> list[str]:
    """Decode with this project's own recogniser: what exports are compared with."""
    codes = {clip.code: clip.code for clip in clips}
    options = Options(
        pad="30s",
        suppress=settings.suppress,
        lang_tokens=" ".join(f"{c}:{c}" for c in codes),
    )
    recognizer = Recognizer(path, options, settings.device)
    texts = []
    for batch in _batches(clips):
        waves = [torch.from_numpy(clip.wave) for clip in batch]
        memory, lengths = recognizer.encode(*recognizer.features(waves))
        prompts = torch.tensor([recognizer.prompt.prompt(clip.code) for clip in batch])
        limits = torch.full((len(batch),), settings.max_tokens)
        device = recognizer.device
        hyps = greedy(
            recognizer.whisper,
            memory,
            lengths,
            prompts.to(device),
            recognizer.rules,
            limits.to(device),
        )
        texts += [recognizer.text(hyp) for hyp in hyps]
    return texts


@torch.inference_mode()
def transformers(path: Path, clips: Sequence[Clip], settings: Settings) -> list[str]:
    """Decode with transformers.

    Raises:
        ValueError: The directory lacks a tensor, or has one too many.
    """
    from transformers import WhisperForConditionalGeneration, WhisperProcessor
    from transformers.utils import logging

    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()  # it advises on options that are given on purpose
    try:
        loaded: Any = WhisperForConditionalGeneration.from_pretrained(
            path, dtype=torch.float32, output_loading_info=True, local_files_only=True
        )
        model, info = loaded
        if wrong := {kind: sorted(map(str, names)) for kind, names in info.items() if names}:
            raise ValueError(f"{path}: transformers finds {wrong}")
        processor: Any = WhisperProcessor.from_pretrained(path, local_files_only=True)
        model.eval().to(settings.device)
        texts: list[str] = []
        for batch in _batches(clips):
            inputs = processor(
                [clip.wave for clip in batch], sampling_rate=SAMPLE_RATE, return_tensors="pt"
            )
            ids = model.generate(
                inputs.input_features.to(settings.device),
                language=[clip.code for clip in batch],
                task="transcribe",
                return_timestamps=False,
                do_sample=False,
                num_beams=1,
                max_new_tokens=settings.max_tokens,
                suppress_tokens=list(settings.banned),
            )
            texts += processor.batch_decode(ids, skip_special_tokens=True)
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    return [one_line(text) for text in texts]


def openai_whisper(path: Path, clips: Sequence[Clip], settings: Settings) -> list[str]:
    """Decode with openai-whisper."""
    import whisper

    model = whisper.load_model(str(path), device=settings.device)
    texts = []
    for clip in clips:
        wave = torch.from_numpy(whisper.pad_or_trim(clip.wave)).to(settings.device)
        options = whisper.DecodingOptions(
            language=clip.code,
            task="transcribe",
            temperature=0.0,
            sample_len=settings.max_tokens,
            suppress_tokens=list(settings.banned),
            without_timestamps=True,
            fp16=False,
        )
        result = whisper.decode(
            model, whisper.log_mel_spectrogram(wave, model.dims.n_mels), options
        )
        assert isinstance(result, whisper.DecodingResult)
        texts.append(one_line(result.text))
    return texts


def faster_whisper(path: Path, clips: Sequence[Clip], settings: Settings) -> list[str]:
    """Decode with faster-whisper."""
    from faster_whisper import WhisperModel

    model = WhisperModel(
        str(path),
        device=settings.device,
        compute_type="default" if settings.integers else "float32",
        local_files_only=True,
    )
    texts = []
    for clip in clips:
        wave = np.zeros(N_SAMPLES, dtype=np.float32)
        wave[: len(clip.wave)] = clip.wave
        segments, _ = model.transcribe(
            wave,
            language=clip.code,
            task="transcribe",
            beam_size=1,
            temperature=0.0,
            compression_ratio_threshold=None,
            log_prob_threshold=None,
            no_speech_threshold=None,
            condition_on_previous_text=False,
            suppress_tokens=list(settings.banned),
            without_timestamps=True,
            max_new_tokens=2 * settings.max_tokens - PROMPT_TOKENS,
        )
        texts.append(one_line("".join(segment.text for segment in segments)))
    return texts


def espnet(path: Path, clips: Sequence[Clip], settings: Settings) -> list[str]:
    """Unpack with ESPnet and decode with its own search."""
    import tempfile

    from espnet2.main_funcs.pack_funcs import unpack

    from espnet_plugin.decode.speech2text import Speech2Text

    codes = {clip.code: clip.code for clip in clips}
    with tempfile.TemporaryDirectory() as folder:
        speech2text = Speech2Text(
            **unpack(path, folder),
            language=next(iter(codes)),
            lang_tokens=codes,
            suppress=settings.suppress,
            pad="30s",
            device=settings.device,
            beam_size=1,
            maxlenratio=-float(settings.max_tokens),
        )
        return [one_line(speech2text(clip.wave, language=clip.code)[0][0]) for clip in clips]


RUNTIMES: dict[str, Callable[[Path, Sequence[Clip], Settings], list[str]]] = {
    "hf": transformers,
    "openai": openai_whisper,
    "ct2": faster_whisper,
    "espnet": espnet,
}


def decode(target: Target, path: Path, clips: Sequence[Clip], settings: Settings) -> list[str]:
    """Decode clips with the runtime of a format.

    Args:
        target: What the export is.
        path: Its file or directory.
        clips: What to decode.
        settings: How.

    Raises:
        ValueError: The runtime is not installed.
    """
    settings = replace(settings, integers=(target.dtype or "").startswith("int8"))
    try:
        return RUNTIMES[target.format.name](path, clips, settings)
    except ImportError as error:
        raise ValueError(
            f"{target.format.runtime}, which {target.format.name} is verified with, is not "
            f"installed ({error}): pip install {target.format.package}, or export with "
            "--verify false"
        ) from None
