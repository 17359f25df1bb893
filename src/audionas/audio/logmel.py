"""The log-mel front end of PANNs (Kong et al., 2020), as one module."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from audionas.errors import UserError


class LogMel(nn.Module):
    """Waveforms [batch, samples] in -1..1 to log-mel spectrograms [batch, frames, mels] in dB.

    Periodic Hann window of `n_fft`, centred with reflection, power 2, Slaney mel scale and norm,
    10 log10(max(x, 1e-10)) without a top. torchaudio's own defaults (HTK scale, no norm) differ.
    frames = 1 + samples // hop.

    Raises:
        UserError: a mel filter would be empty.
        ValueError: waveforms that are not [batch, samples], or too short to reflect (n_fft // 2 samples).
    """

    FLOOR = 1e-10

    def __init__(
        self,
        sample_rate: int = 32_000,
        n_fft: int = 1024,
        hop: int = 320,
        mels: int = 64,
        fmin: float = 50.0,
        fmax: float = 14_000.0,
    ):
        super().__init__()
        self.spectrogram = torchaudio.transforms.Spectrogram(n_fft, hop_length=hop, power=None)
        filters = torchaudio.functional.melscale_fbanks(
            n_fft // 2 + 1, fmin, fmax, mels, sample_rate, norm="slaney", mel_scale="slaney"
        )
        if empty := int((filters.sum(dim=0) == 0).sum()):
            raise UserError(
                f"features: {empty} of {mels} mel filters hold no frequency bin of a transform of "
                f"{n_fft} samples; lower features.mels or raise features.n_fft"
            )
        self.register_buffer("filters", filters)

    def forward(self, waveforms: Tensor) -> Tensor:
        """See the class."""
        if waveforms.ndim != 2 or waveforms.shape[1] <= self.spectrogram.n_fft // 2:
            raise ValueError(
                f"waveforms have shape {tuple(waveforms.shape)}; give [batch, samples] of more than "
                f"{self.spectrogram.n_fft // 2} samples"
            )
        parts = torch.view_as_real(self.spectrogram(waveforms))  # [batch, bins, frames, 2]
        # torchaudio's power=2 takes the root and squares it again: twice the time of all the rest.
        power = parts.square_()[..., 0] + parts[..., 1]
        mel = power.transpose(1, 2) @ self.filters
        return 10.0 * torch.log10(mel.clamp_min(self.FLOOR))
