"""Augmentation of training audio, by ESPnet's options and ESPnet's own functions.

Speed and other effects (`preprocessor_conf: data_aug_*`), rooms (`rir_*`), noise (`noise_*`) and
volume (`speech_volume_normalize`) change the waveform; SpecAugment (`specaug*`) the features.
"""

import argparse
import inspect
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from espnet_plugin.cli import nearest
from espnet_plugin.features import HOP, N_SAMPLES, SAMPLE_RATE

EFFECTS = ("data_aug_effects", "data_aug_num", "data_aug_prob")
ROOMS = ("rir_scp", "rir_apply_prob")
NOISES = ("noise_scp", "noise_apply_prob", "noise_db_range", "short_noise_thres")
VOLUME = "speech_volume_normalize"
# ESPnet's defaults of what says nothing without a list of rooms or noises.
UNSET = {
    "rir_apply_prob": 1.0,
    "noise_apply_prob": 1.0,
    "noise_db_range": "13_15",
    "short_noise_thres": 0.5,
}


class Augmentation:
    """Changes a waveform as ESPnet's `CommonPreprocessor` does in training.

    What is random follows from (seed, pass, utterance) alone: a resumed run, and any number of
    reading processes, hears the same.
    """

    def __init__(self, options: Mapping[str, Any], seed: int = 0) -> None:
        """Read the lists of rooms and noises.

        Args:
            options: As `read_options` returns them.
            seed: Of everything random.
        """
        from espnet2.train.preprocessor import CommonPreprocessor

        self.seed = seed
        # Two, since ESPnet's own order (rooms, then effects) stumbles over its two-dimensional
        # audio between them.
        effects = {k: v for k, v in options.items() if k in EFFECTS}
        rest = {k: v for k, v in options.items() if k in (*ROOMS, *NOISES, VOLUME)}
        self.effects = CommonPreprocessor(train=True, fs=SAMPLE_RATE, **effects)
        self.rooms = CommonPreprocessor(train=True, force_single_channel=True, **rest)

    def __call__(self, utt: str, turn: int, speech: np.ndarray) -> np.ndarray:
        """Augment `(samples,)` float32 of an utterance, 16 kHz, in the given pass.

        An effect that would make an utterance longer than 30 s is left out.
        """
        with seeded(zlib.crc32(f"{self.seed} {turn} {utt}".encode())):
            changed = self.effects._speech_process({"speech": speech})["speech"]
            if len(changed) > N_SAMPLES:
                changed = speech
            data = self.rooms._speech_process({"speech": changed})
        return np.asarray(data["speech"], dtype=np.float32)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed what ESPnet's functions draw from, and restore it afterwards."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


def read_options(args: argparse.Namespace) -> dict[str, Any]:
    """Collect and check the options of waveform augmentation; empty if there is none.

    Args:
        args: ESPnet's options of the ASR task.

    Raises:
        ValueError: If a value is out of range, unknown, or a file is not 16 kHz.
        FileNotFoundError: If a list, or a file that it names, is missing.
    """
    options: dict[str, Any] = {}
    for names in (ROOMS, NOISES):
        if getattr(args, names[0], None) is not None:
            options |= {name: getattr(args, name) for name in names}
            _share(names[1], options[names[1]])
        elif alone := [n for n in names[1:] if getattr(args, n, UNSET[n]) != UNSET[n]]:
            raise ValueError(f"{alone[0]} does nothing without {names[0]}, a list 'NAME FILE'")
    if "noise_scp" in options:
        _decibels(options["noise_db_range"])
    if (volume := getattr(args, VOLUME, None)) is not None:
        if not 0 < volume <= 1:
            raise ValueError(f"{VOLUME} is the loudest sample, above 0 and at most 1, got {volume}")
        options[VOLUME] = volume
    conf = dict(getattr(args, "preprocessor_conf", None) or {})
    if unknown := sorted(set(conf) - {*EFFECTS, "fs"}):
        raise ValueError(
            f"preprocessor_conf has no option '{unknown[0]}'{nearest(unknown[0], EFFECTS)} "
            f"for these models; it has {', '.join(EFFECTS)}"
        )
    if conf.pop("fs", SAMPLE_RATE) != SAMPLE_RATE:
        raise ValueError(f"preprocessor_conf: fs is {SAMPLE_RATE}, Whisper's")
    if conf:
        _effects(conf)
        options |= conf
    return options


def check(args: argparse.Namespace, with_text: bool) -> None:
    """Check all options of augmentation before anything is trained.

    Args:
        args: The parsed options.
        with_text: Whether the stage trains on text alone.

    Raises:
        ValueError: If there is nothing to augment, utterances would be kept after their first
            augmentation, or as `read_options`, `check_files` and `build_specaug`.
        FileNotFoundError: As `check_files`.
    """
    options = read_options(args)
    given = [*options, *(["specaug"] if args.specaug else [])]
    if with_text and given:
        raise ValueError(f"{given[0]}: a stage that trains on text alone has no audio to augment")
    if options and args.max_cache_size:
        raise ValueError(
            f"max_cache_size would keep an utterance's first {given[0]} for good: set it to 0"
        )
    if args.specaug_conf and not args.specaug:
        raise ValueError("specaug_conf does nothing without specaug: specaug")
    check_files(options)
    build_specaug(args.specaug, args.specaug_conf)


def check_files(options: Mapping[str, Any]) -> None:
    """Look at every room and noise: ESPnet would mix in another sampling rate as it is.

    Raises:
        ValueError: If a list is empty, or a file is not audio at 16 kHz.
        FileNotFoundError: If a list or a file is missing.
    """
    import soundfile

    def look(item: tuple[str, Path]) -> None:
        where, path = item
        if not path.is_file():
            raise FileNotFoundError(f"{where}: {path} is missing")
        try:
            rate = soundfile.info(path).samplerate
        except soundfile.LibsndfileError as error:
            raise ValueError(f"{where}: {path} cannot be read: {error}") from None
        if rate != SAMPLE_RATE:
            raise ValueError(f"{where}: {path} has {rate} Hz: resample it to {SAMPLE_RATE} Hz")

    for name in ("rir_scp", "noise_scp"):
        if name not in options:
            continue
        scp = Path(options[name])
        if not scp.is_file():
            raise FileNotFoundError(f"--{name} {scp} is missing: a line is 'NAME FILE'")
        lines = scp.read_text(encoding="utf-8").splitlines()
        if not lines:
            raise ValueError(f"--{name} {scp} is empty")
        paths = [Path((line.split(None, 1) or [""])[-1].strip()) for line in lines]
        items = [(f"{scp}, line {number}", path) for number, path in enumerate(paths, 1)]
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(look, items))


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} lies in 0..1, got {value}")


def _decibels(text: str) -> None:
    try:
        bounds = [float(part) for part in text.split("_")]
    except ValueError:
        bounds = []
    if len(bounds) not in (1, 2) or bounds[0] > bounds[-1]:
        raise ValueError(f"noise_db_range is 'LOW_HIGH' in dB, such as 13_15, got '{text}'")


def _effects(conf: dict[str, Any]) -> None:
    """Check `data_aug_effects`: `[weight, name, options]`, or `[weight, [such, such, ...]]`."""
    from espnet2.layers.augmentation import effects_dict

    form = "data_aug_effects: an effect is [weight, name, {options}] or [weight, [effects]]"
    if not conf.get("data_aug_effects"):
        raise ValueError(f"preprocessor_conf: data_aug_effects is missing; {form}")
    _share("data_aug_prob", conf.get("data_aug_prob", 0.0))
    if not conf.get("data_aug_prob"):
        raise ValueError("preprocessor_conf: data_aug_prob is missing: the share of utterances")
    many = conf["data_aug_effects"]
    number = conf.get("data_aug_num", [1, 1])
    if len(number) != 2 or not 1 <= number[0] <= number[1] <= len(many):
        raise ValueError(
            f"preprocessor_conf: data_aug_num is [least, most] of the {len(many)} effects, "
            f"got {number}"
        )
    single: list[Any] = []
    for effect in many:
        nested = isinstance(effect, Sequence) and len(effect) == 2 and isinstance(effect[1], list)
        if nested and len(effect[1]) < 2:
            raise ValueError(f"{form}: a choice needs two effects or more, got {effect}")
        single += effect[1] if nested else [effect]
    for effect in single:
        if not isinstance(effect, Sequence) or isinstance(effect, str) or len(effect) != 3:
            raise ValueError(f"{form}; got {effect}")
        weight, name, options = effect
        if name not in effects_dict:
            raise ValueError(
                f"data_aug_effects: unknown effect '{name}'{nearest(name, effects_dict)}"
            )
        known = [*inspect.signature(effects_dict[name]).parameters][2:]
        if unknown := sorted(set(options) - set(known)):
            raise ValueError(
                f"data_aug_effects: {name} has no option '{unknown[0]}'; it has {', '.join(known)}"
            )
        if not weight > 0:
            raise ValueError(f"data_aug_effects: the weight of {name} is above 0, got {weight}")


def build_specaug(name: str | None, conf: Mapping[str, Any]) -> torch.nn.Module | None:
    """Build ESPnet's SpecAugment from `--specaug` and `--specaug_conf`.

    Raises:
        ValueError: If an option is unknown or its value is refused.
    """
    if name is None:
        return None
    from espnet2.tasks.asr import specaug_choices

    kind = specaug_choices.get_class(name)
    known = [*inspect.signature(kind).parameters]
    if unknown := sorted(set(conf) - set(known)):
        raise ValueError(
            f"specaug_conf: {name} has no option '{unknown[0]}'{nearest(unknown[0], known)}; "
            f"it has {', '.join(known)}"
        )
    try:
        return kind(**conf)
    except (AssertionError, TypeError) as error:
        reason = str(error) or "a range is LOW, HIGH with LOW < HIGH"
        raise ValueError(f"specaug_conf: {reason}") from None


@torch.no_grad()
def augment_features(
    specaug: torch.nn.Module, features: torch.Tensor, samples: torch.Tensor
) -> torch.Tensor:
    """Apply SpecAugment to what is speech; padding of either kind stays as it is.

    Args:
        specaug: ESPnet's.
        features: `(batch, mel, frames)` float.
        samples: `(batch,)` long, samples of each utterance, 16 kHz.

    Returns:
        `(batch, mel, frames)` float.
    """
    frames = torch.div(samples + HOP - 1, HOP, rounding_mode="floor").clamp(max=features.shape[2])
    longest = int(frames.max())
    speech = features[..., :longest].transpose(1, 2)
    masked, _ = specaug(speech.clone(), frames)
    inside = torch.arange(longest, device=features.device) < frames[:, None]
    masked = torch.where(inside[..., None], masked, speech).transpose(1, 2)
    return torch.cat((masked, features[..., longest:]), 2)
