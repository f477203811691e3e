import numpy as np
import pytest
import torch

from espnet_plugin.features import HOP, N_SAMPLES, LogMel


def audio(seconds: float, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0, 0.1, int(seconds * 16_000)).astype(np.float32))


def padded(waves: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(w) for w in waves])
    # Values past the end must not matter: fill them with noise.
    batch = torch.full((len(waves), int(lengths.max())), 0.7)
    for row, wave in enumerate(waves):
        batch[row, : len(wave)] = wave
    return batch, lengths


@pytest.mark.parametrize("n_mels", [80, 128])
def test_equals_openai_whisper_and_transformers(n_mels: int) -> None:
    import whisper
    from transformers import WhisperFeatureExtractor

    wave = audio(2.345)
    ours, frames = LogMel(n_mels)(wave[None], torch.tensor([len(wave)]), "30s")
    openai = whisper.log_mel_spectrogram(whisper.pad_or_trim(wave), n_mels)
    assert frames.tolist() == [3000] and ours.shape == (1, n_mels, 3000)
    assert (ours[0] - openai).abs().max() < 1e-4
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    theirs = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features
    assert (ours - theirs).abs().max() < 1e-4


def test_batch_equals_single_and_the_30s_frames() -> None:
    log_mel = LogMel(80)
    waves = [audio(s, seed) for seed, s in enumerate((1.0, 0.5, 2.3333, 0.01))]
    batch, lengths = padded(waves)
    features, frames = log_mel(batch, lengths, "batch")
    assert frames.tolist() == [-(-len(w) // HOP) for w in waves]
    for row, wave in enumerate(waves):
        n = int(frames[row])
        single, _ = log_mel(wave[None], torch.tensor([len(wave)]), "batch")
        whole, _ = log_mel(wave[None], torch.tensor([len(wave)]), "30s")
        assert torch.equal(features[row, :, :n], single[0])
        assert (single[0] - whole[0, :, :n]).abs().max() < 1e-6
        assert not features[row, :, n:].any()


def test_longest_utterance_keeps_every_frame() -> None:
    wave = audio(30.0)
    features, frames = LogMel(80)(wave[None], torch.tensor([N_SAMPLES]), "batch")
    assert features.shape[-1] == frames[0] == 3000


@pytest.mark.parametrize("samples", [0, N_SAMPLES + 1])
def test_length_out_of_range_is_an_error(samples: int) -> None:
    with pytest.raises(ValueError, match=f"1 to {N_SAMPLES} samples.*got {samples}"):
        LogMel(80)(torch.zeros(1, max(samples, 1)), torch.tensor([samples]), "batch")


def test_unknown_padding_is_an_error() -> None:
    with pytest.raises(ValueError, match="'30s' or 'batch', got 'none'"):
        LogMel(80)(torch.zeros(1, 10), torch.tensor([10]), "none")
