"""Augmentation by ESPnet's options: what changes, what does not, and that a run can be repeated."""

import argparse
import random
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from espnet_plugin.augment import (
    Augmentation,
    augment_features,
    build_specaug,
    check,
    check_files,
    read_options,
    seeded,
)
from espnet_plugin.corpora.an4 import NOISES, ROOMS, find_archive, read_members
from espnet_plugin.features import N_SAMPLES, LogMel
from espnet_plugin.preprocess import PairPreprocessor
from espnet_plugin.prompt import PromptBuilder

SPEED = [[1.0, [[1.0, "speed_perturb", {"factor": 0.8}], [1.0, "speed_perturb", {"factor": 1.25}]]]]


def options(**given: Any) -> argparse.Namespace:
    defaults: dict[str, Any] = {
        "rir_scp": None,
        "rir_apply_prob": 1.0,
        "noise_scp": None,
        "noise_apply_prob": 1.0,
        "noise_db_range": "13_15",
        "short_noise_thres": 0.5,
        "speech_volume_normalize": None,
        "preprocessor_conf": {},
        "specaug": None,
        "specaug_conf": {},
        "max_cache_size": 0.0,
    }
    return argparse.Namespace(**defaults | given)


@pytest.fixture(scope="module")
def lists(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Lists of the rooms and noises that ESPnet's wheel carries."""
    root, members = tmp_path_factory.mktemp("sounds"), read_members(find_archive())
    found = {}
    for kind, names in (("rir_scp", ROOMS), ("noise_scp", NOISES)):
        lines = []
        for name in names:
            path = root / Path(name).name
            path.write_bytes(members[name])
            lines.append(f"{path.stem} {path}\n")
        (root / kind).write_text("".join(lines))
        found[kind] = str(root / kind)
    return found


def wave(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, int(seconds * 16_000)).astype(np.float32)


def test_rooms_noises_and_volume_are_espnets(lists: dict[str, str]) -> None:
    from espnet2.train.preprocessor import CommonPreprocessor

    args = options(**lists, noise_db_range="3_10", speech_volume_normalize=0.5)
    check_files(read_options(args))
    augment, speech = Augmentation(read_options(args), seed=1), wave()
    found = augment("utt", 4, speech)
    assert found.shape == speech.shape and found.dtype == np.float32
    assert np.abs(found).max() == pytest.approx(0.5)
    theirs = CommonPreprocessor(train=True, **read_options(args))
    with seeded(zlib.crc32(b"1 4 utt")):
        expected = theirs._speech_process({"speech": speech})["speech"][:, 0]
    assert np.array_equal(found, expected.astype(np.float32))
    assert np.abs(found / np.abs(found).max() - speech / np.abs(speech).max()).max() > 0.1


def test_what_is_random_follows_from_seed_pass_and_utterance(lists: dict[str, str]) -> None:
    conf = {"data_aug_effects": SPEED, "data_aug_prob": 1.0}
    args = read_options(options(**lists, preprocessor_conf=conf))
    speech = wave()
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    expected = random.random(), np.random.rand(), torch.rand(1)
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    first = Augmentation(args, 1)("a", 0, speech)
    assert (random.random(), np.random.rand(), torch.rand(1)) == expected, "others' draws stay"
    assert np.array_equal(first, Augmentation(args, 1)("a", 0, speech))
    for seed, turn, utt in ((2, 0, "a"), (1, 1, "a"), (1, 0, "b")):
        assert not np.array_equal(first, Augmentation(args, seed)(utt, turn, speech))
    lengths = {len(Augmentation(args, 1)("a", turn, speech)) for turn in range(12)}
    assert lengths == {len(speech) * 4 // 5, len(speech) * 5 // 4}


def test_times_follow_the_speed(tiny_whisper: Path) -> None:
    effects = [[1.0, "speed_perturb", {"factor": 0.8}]]
    conf = {"data_aug_effects": effects, "data_aug_prob": 1.0}
    builder = PromptBuilder(tiny_whisper)
    faster = Augmentation(read_options(options(preprocessor_conf=conf)))
    plain, changed = PairPreprocessor(builder, 1.0), PairPreprocessor(builder, 1.0, faster)
    data = {"speech": wave(2.0), "text": "saya nak pergi", "lang": "cs"}
    before, after = plain("u", dict(data)), changed("u", dict(data))
    assert len(after["speech"]) == 40_000 == 1.25 * len(before["speech"])
    assert after["text"][-2] - before["text"][-2] == 25, "half a second, in steps of 20 ms"
    long = changed("u", data | {"speech": wave(29.0)})["speech"]
    assert len(long) == 29 * 16_000 <= N_SAMPLES, "an effect that exceeds 30 s is left out"


@pytest.mark.parametrize("pad", ["batch", "30s"])
def test_specaugment_masks_speech_and_leaves_padding(pad: str) -> None:
    specaug = build_specaug("specaug", {"time_mask_width_range": [5, 20], "time_warp_window": 5})
    assert specaug is not None
    samples = torch.tensor([32_000, 20_000])
    speech = torch.from_numpy(np.stack([wave(2.0, 0), wave(2.0, 1)]))
    features, _ = LogMel(80)(speech, samples, pad)
    before = features.clone()
    torch.manual_seed(0)
    found = augment_features(specaug, features, samples)
    assert torch.equal(features, before) and found.shape == before.shape
    for row, frames in enumerate((200, 125)):
        assert torch.equal(found[row, :, frames:], before[row, :, frames:])
        assert (found[row, :, :frames] == 0).all(dim=0).sum() >= 5, "frames are masked"
        assert (found[row, :, :frames] == 0).all(dim=1).any(), "mel bins are masked"
    torch.manual_seed(0)
    assert torch.equal(found, augment_features(specaug, features, samples))


def test_specaugment_is_for_training_alone(tiny_whisper: Path) -> None:
    from espnet_plugin.model import AsyncSwitchModel

    specaug = build_specaug("specaug", {"time_mask_width_range": [5, 20]})
    models = [AsyncSwitchModel(tiny_whisper, autocast="none", specaug=s) for s in (None, specaug)]
    text = torch.from_numpy(models[0].prompt.encode("saya nak pergi", "cs"))[None]
    batch = {"text": text, "text_lengths": torch.tensor([text.shape[1]])}
    batch |= {"speech": torch.from_numpy(wave())[None], "speech_lengths": torch.tensor([32_000])}
    plain = models[0].train()(**batch)[0].item()
    assert abs(models[1].train()(**batch)[0].item() - plain) > 1e-5
    with torch.no_grad():
        assert models[1](**batch)[0].item() == pytest.approx(plain), "the start is validated so"
    assert models[1].eval()(**batch)[0].item() == pytest.approx(plain)
    assert list(models[1].state_dict()) == list(models[0].state_dict())


NAMED = {"data_aug_prob": 0.5}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rir_scp": "x", "rir_apply_prob": 1.2}, "rir_apply_prob lies in 0..1, got 1.2"),
        ({"noise_scp": "x", "noise_db_range": "15_13"}, "'LOW_HIGH' in dB.*got '15_13'"),
        ({"noise_scp": "x", "noise_db_range": "a"}, "'LOW_HIGH' in dB.*got 'a'"),
        ({"speech_volume_normalize": 2.0}, "speech_volume_normalize is .* at most 1, got 2.0"),
        ({"preprocessor_conf": {"data_aug_effect": []}}, "'data_aug_effect'.*data_aug_effects"),
        ({"preprocessor_conf": {"fs": 8000}}, "fs is 16000"),
        ({"preprocessor_conf": {"data_aug_prob": 0.5}}, "data_aug_effects is missing"),
        ({"preprocessor_conf": {"data_aug_effects": SPEED}}, "data_aug_prob is missing"),
        (
            {"preprocessor_conf": NAMED | {"data_aug_effects": [[1.0, "speed", {}]]}},
            "unknown effect 'speed'",
        ),
        (
            {"preprocessor_conf": NAMED | {"data_aug_effects": [[1, "speed_perturb", {"f": 1}]]}},
            "speed_perturb has no option 'f'; it has factor",
        ),
        (
            {"preprocessor_conf": NAMED | {"data_aug_effects": [["speed_perturb"]]}},
            r"an effect is \[weight, name, \{options\}\]",
        ),
        (
            {"preprocessor_conf": NAMED | {"data_aug_effects": SPEED, "data_aug_num": [1, 2]}},
            "of the 1 effects, got",
        ),
        ({"specaug": "specaug", "specaug_conf": {"num_mask": 2}}, "no option 'num_mask'.*num_time"),
        ({"specaug": "specaug"}, "time_mask_width_range"),
        (
            {"specaug": "specaug", "specaug_conf": {"freq_mask_width_range": [9, 3]}},
            "LOW, HIGH with LOW < HIGH",
        ),
        ({"speech_volume_normalize": 0.5, "max_cache_size": 10.0}, "max_cache_size .* set it to 0"),
        ({"specaug_conf": {"num_freq_mask": 2}}, "specaug_conf does nothing without specaug"),
        ({"rir_apply_prob": 0.3}, "rir_apply_prob does nothing without rir_scp"),
        ({"noise_apply_prob": 0.3}, "noise_apply_prob does nothing without noise_scp"),
        ({"noise_db_range": "5_20"}, "noise_db_range does nothing without noise_scp"),
    ],
)
def test_wrong_options_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(options(**given), with_text=False)


def test_text_has_nothing_to_augment() -> None:
    with pytest.raises(ValueError, match="specaug: a stage that trains on text alone"):
        check(options(specaug="specaug"), with_text=True)


def test_wrong_files_are_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "slow.wav", wave(0.1), 8_000)
    (tmp_path / "text.wav").write_text("no sound")
    scp = tmp_path / "noise.scp"
    found = read_options(options(noise_scp=str(scp)))
    with pytest.raises(FileNotFoundError, match="--noise_scp .*noise.scp is missing"):
        check_files(found)
    for line, error, message in (
        ("", ValueError, "noise.scp is empty"),
        (f"a {tmp_path}/none.wav\n", FileNotFoundError, "scp, line 1: .*none.wav is missing"),
        (f"{tmp_path}/slow.wav\n", ValueError, "line 1: .*slow.wav has 8000 Hz: resample it"),
        (f"a {tmp_path}/text.wav\n", ValueError, "line 1: .*text.wav cannot be read"),
    ):
        scp.write_text(line)
        with pytest.raises(error, match=message):
            check_files(found)
