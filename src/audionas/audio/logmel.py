"""The log-mel front end of PANNs (Kong et al., 2020)."""

from __future__ import annotations

import torch
import torchaudio
from torch import Tensor, nn

from audionas.runtime.errors import UserError


class LogMel(nn.Module):
    """Convert waveforms [batch, samples] in -1..1 to log-mel spectrograms [batch, frames, mels] in dB.

    Periodic Hann window of `n_fft` samples, centred with reflection padding, power 2, Slaney mel scale and
    norm, 10 log10(max(x, 1e-10)) without `top_db`. torchaudio's defaults (HTK scale, no norm) differ. frames
    = 1 + samples // hop.

    Args:
        sample_rate: Hz.
        n_fft: window and transform length in samples.
        hop: samples between frames.
        mels: number of mel filters.
        fmin, fmax: frequency range of the filters in Hz.

    Raises:
        UserError: a mel filter is empty.
        ValueError: the input is not [batch, samples], or too short for the padding (n_fft // 2 samples).
    """

    FLOOR = 1e-10
    _FRAMES = 256  # frames transformed at once, so that intermediate results stay in the CPU cache

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
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft))
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
        if waveforms.ndim != 2 or waveforms.shape[1] <= self.n_fft // 2:
            raise ValueError(
                f"waveforms have shape {tuple(waveforms.shape)}; give [batch, samples] of more than "
                f"{self.n_fft // 2} samples"
            )
        reach = self.n_fft // 2
        ends = waveforms[:, 1 : reach + 1].flip(1), waveforms[:, -reach - 1 : -1].flip(1)
        frames = torch.cat([ends[0], waveforms, ends[1]], dim=1).unfold(1, self.n_fft, self.hop)
        blocks = frames.chunk(-(-frames.shape[1] // self._FRAMES), dim=1)
        mel = torch.cat([self._filtered(block) for block in blocks], dim=1)
        return mel.clamp_min_(self.FLOOR).log10_().mul_(10.0)

    def _filtered(self, frames: Tensor) -> Tensor:
        """Convert frames [batch, frames, n_fft] to mel power [batch, frames, mels]."""
        parts = torch.view_as_real(torch.fft.rfft(frames * self.window)).square_()
        power = parts[..., 0] + parts[..., 1]
        return power @ self.filters
