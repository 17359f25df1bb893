"""The log-mel front ends of PANNs (Kong et al., 2020) and of CED (Dinkel et al., 2024)."""

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

    With `front_end="ced"`, as sherpa-onnx computes it for its audio tagging: the filters and frames of Kaldi
    (HTK mel scale, no norm, frames around the middle of each hop, ends mirrored with the last sample), and
    at most 120 dB below the loudest value of a clip. frames = (samples + hop // 2) // hop.

    Args:
        sample_rate: Hz.
        n_fft: window and transform length in samples.
        hop: samples between frames.
        mels: number of mel filters.
        fmin, fmax: frequency range of the filters in Hz.
        front_end: panns or ced.

    Attributes:
        before, after: samples of padding.
        mirrored: samples at each end that the padding leaves out: 1 for reflection, 0 if the last is
            repeated.
        range: largest difference in dB between values of a clip, or None.

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
        front_end: str = "panns",
    ):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("window", torch.hann_window(n_fft))
        if front_end == "ced":
            filters = _kaldi_filters(n_fft, fmin, fmax, mels, sample_rate)
            self.before, self.after = n_fft // 2 - hop // 2, n_fft // 2 - (hop - 2 * (hop // 2))
            self.mirrored, self.range = 0, 120.0
        else:
            filters = torchaudio.functional.melscale_fbanks(
                n_fft // 2 + 1, fmin, fmax, mels, sample_rate, norm="slaney", mel_scale="slaney"
            )
            self.before = self.after = n_fft // 2
            self.mirrored, self.range = 1, None
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
        frames = self.padded(waveforms).unfold(1, self.n_fft, self.hop)
        blocks = frames.chunk(-(-frames.shape[1] // self._FRAMES), dim=1)
        mel = torch.cat([self._filtered(block) for block in blocks], dim=1)
        decibels = mel.clamp_min_(self.FLOOR).log10_().mul_(10.0)
        if self.range is None:
            return decibels
        return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - self.range)

    def padded(self, waveforms: Tensor) -> Tensor:
        """Mirror both ends of waveforms [batch, samples]."""
        at, samples = self.mirrored, waveforms.shape[1]
        start = waveforms[:, at : at + self.before].flip(1)
        end = waveforms[:, samples - at - self.after : samples - at].flip(1)
        return torch.cat([start, waveforms, end], dim=1)

    def _filtered(self, frames: Tensor) -> Tensor:
        """Convert frames [batch, frames, n_fft] to mel power [batch, frames, mels]."""
        parts = torch.view_as_real(torch.fft.rfft(frames * self.window)).square_()
        power = parts[..., 0] + parts[..., 1]
        return power @ self.filters


def _kaldi_filters(n_fft: int, fmin: float, fmax: float, mels: int, sample_rate: int) -> Tensor:
    """Return the filters [n_fft // 2 + 1, mels] of Kaldi, which leave out the last frequency bin."""
    options = {"vtln_low": 100.0, "vtln_high": -500.0, "vtln_warp_factor": 1.0}  # no warping
    filters, _ = torchaudio.compliance.kaldi.get_mel_banks(
        mels, n_fft, float(sample_rate), fmin, fmax, **options
    )
    return torch.nn.functional.pad(filters, (0, 1)).T.contiguous()
