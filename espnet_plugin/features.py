"""Log-mel features as Whisper defines them, in torch, on the model's device, for whole batches.

Source: openai-whisper, `audio.py` (`log_mel_spectrogram`): 16 kHz audio, a periodic Hann window
of 25 ms, a hop of 10 ms, Slaney mel filters, log10 clamped 8 below the utterance's maximum.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers.audio_utils import mel_filter_bank

SAMPLE_RATE = 16_000  # Hz
N_FFT = 400  # samples: a window of 25 ms
HOP = 160  # samples: 10 ms between frames
WINDOW_SECONDS = 30  # length of Whisper's input
N_SAMPLES = SAMPLE_RATE * WINDOW_SECONDS
N_FRAMES = N_SAMPLES // HOP  # 3 000


class LogMel(torch.nn.Module):
    """Waveforms to Whisper's log-mel features.

    The filters and the window are buffers that follow the module's device and are not in its
    state dict, so that a state dict holds Whisper's own tensors only. They stay float32 in a model
    of half precision: rounded ones would not give Whisper's features, and there is no such FFT.
    """

    filters: torch.Tensor
    window: torch.Tensor

    def __init__(self, n_mels: int) -> None:
        """Build the filters.

        Args:
            n_mels: Mel bins, from the checkpoint (80, or 128 from large-v3 on).
        """
        super().__init__()
        bank = mel_filter_bank(
            num_frequency_bins=1 + N_FFT // 2,
            num_mel_filters=n_mels,
            min_frequency=0.0,
            max_frequency=SAMPLE_RATE / 2,
            sampling_rate=SAMPLE_RATE,
            norm="slaney",
            mel_scale="slaney",
        )
        filters = torch.from_numpy(bank.T.copy()).float()
        self.register_buffer("filters", filters, persistent=False)
        self.register_buffer("window", torch.hann_window(N_FFT), persistent=False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> "LogMel":
        """Go where the model goes, and keep values and type."""
        before = dict(self._buffers)
        super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new.dtype != old.dtype:
                self._buffers[name] = old.to(new.device)
        return self

    @torch.no_grad()
    def forward(
        self, speech: torch.Tensor, lengths: torch.Tensor, pad: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Compute features; each utterance's are the same in any batch.

        Args:
            speech: `(batch, samples)` float, 16 kHz, within -1..1; values beyond `lengths` are
                ignored.
            lengths: `(batch,)` long, samples of each utterance.
            pad: `30s` pads with silence to 3 000 frames, as Whisper does; `batch` to the longest
                utterance, with zeros (in feature space) after each utterance's own frames.

        Returns:
            Features `(batch, n_mels, frames)` float32, and frames `(batch,)` long that are to be
            attended: all of them with `30s`.

        Raises:
            ValueError: If an utterance is empty or longer than 30 s, or `pad` is unknown.
        """
        if pad not in ("30s", "batch"):
            raise ValueError(f"pad is '30s' or 'batch', got '{pad}'")
        longest = int(lengths.max())
        if longest > N_SAMPLES or int(lengths.min()) < 1:
            raise ValueError(
                f"utterances must have 1 to {N_SAMPLES} samples ({WINDOW_SECONDS} s at 16 kHz), "
                f"got {int(lengths.min())} to {longest}"
            )
        # Zeros follow the end, as in Whisper's own padding: the last frames see the same samples
        # whatever the batch. One window more than needed leaves no frame at the reflected edge.
        total = N_SAMPLES if pad == "30s" else min(N_SAMPLES, longest + N_FFT)
        audio = speech.new_zeros(speech.shape[0], total, dtype=torch.float32)
        width = min(total, speech.shape[1])
        inside = torch.arange(width, device=speech.device) < lengths[:, None]
        audio[:, :width] = speech[:, :width].float() * inside

        # Autocast is off: half-precision spectra are not Whisper's features.
        with torch.autocast(device_type=speech.device.type, enabled=False):
            spectrum = torch.stft(audio, N_FFT, HOP, window=self.window, return_complex=True)
            power = spectrum[..., :-1].abs() ** 2
            log_mel = torch.clamp(self.filters @ power, min=1e-10).log10()
        peak = log_mel.amax(dim=(1, 2), keepdim=True)
        log_mel = (torch.maximum(log_mel, peak - 8.0) + 4.0) / 4.0
        if pad == "30s":
            return log_mel, torch.full_like(lengths, N_FRAMES)
        frames = torch.div(lengths + HOP - 1, HOP, rounding_mode="floor")
        n_frames = int(frames.max())
        valid = torch.arange(n_frames, device=speech.device) < frames[:, None]
        return log_mel[..., :n_frames] * valid[:, None], frames
