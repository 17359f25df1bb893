"""The log-mel front end as matrix products, which runtimes execute fast and export with dynamic length.

`LogMel` calls an FFT. Runtimes lack it (LiteRT), or have a slow one (ONNX Runtime). `FrontEnd` computes the
same spectrogram by one step of the Cooley-Tukey FFT (1965): with n_fft = rows x columns, a product over the
rows, then a product over the columns for each of its outputs.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from audionas.audio.logmel import LogMel


class FrontEnd(nn.Module):
    """Convert waveforms [batch, samples] in -1..1 to log-mel [batch, frames, mels] in dB, as a `LogMel` does.

    The waveforms need more than n_fft // 2 samples, for the reflection padding.

    Args:
        logmel: the front end to reproduce.
        compact: keep a cosine table and two weights for each frequency bin, and compute the matrices from
            them in each call. ONNX Runtime does that once, when it loads a file. For a transform of 1024
            samples the file is 0.6 MB smaller, for one of 8192 samples 7 MB. By default they are buffers.

    Raises:
        ValueError: the mel filters are not triangles with shared corners.
    """

    def __init__(self, logmel: LogMel, compact: bool = False):
        super().__init__()
        self.n_fft, self.hop, self.floor = logmel.n_fft, logmel.hop, logmel.FLOOR
        self.mels = logmel.filters.shape[1]
        self.before, self.after, self.mirrored = logmel.before, logmel.after, logmel.mirrored
        self.range = logmel.range
        # The most columns up to the root of n_fft. One more doubling of rows would take as long.
        self.columns = next(n for n in range(math.isqrt(self.n_fft), 0, -1) if self.n_fft % n == 0)
        self.rows = self.n_fft // self.columns
        self.parts = self.rows // 2 + 1  # outputs over the rows; the others are conjugates of these
        self.circle = math.lcm(self.n_fft, 4)  # steps of the cosine table
        angles = torch.arange(self.circle // 2 + 1, dtype=torch.float64) * (2 * math.pi / self.circle)
        first, weights = _two_weights(logmel.filters)
        self.register_buffer("cosines", angles.cos().float(), persistent=False)
        self.register_buffer("first", first.to(torch.int32), persistent=False)
        self.register_buffer("weights", weights, persistent=False)
        self.compact = compact
        if not compact:
            for name, matrix in self._matrices().items():
                self.register_buffer(name, matrix.contiguous(), persistent=False)
            del self.cosines, self.first, self.weights

    def forward(self, waveforms: Tensor) -> Tensor:
        """See the class."""
        matrices = self._matrices() if self.compact else dict(self.named_buffers())
        x = self._frames(waveforms) * matrices["window"]
        batch, frames = x.shape[:2]
        x = matrices["over_rows"] @ x.reshape(batch, frames, self.rows, self.columns)
        # One product for each part, of all frames; real and imaginary outputs are side by side.
        x = x.reshape(batch * frames, self.parts, 2 * self.columns).transpose(0, 1)
        x = x @ matrices["over_columns"]
        squares = (x * x).transpose(0, 1).reshape(batch, frames, self.parts * 2 * self.columns)
        mel = squares @ matrices["filters"]
        return self._decibels(mel)

    def _decibels(self, mel: Tensor) -> Tensor:
        """Convert mel power [batch, frames, mels] to dB."""
        decibels = mel.clamp_min(self.floor).log() * (10 / math.log(10))
        if self.range is None:
            return decibels
        return torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - self.range)

    def _frames(self, waveforms: Tensor) -> Tensor:
        """Return the frames [batch, frames, n_fft] of the padded waveforms.

        Copies blocks as long as the greatest common divisor of window and hop, not single samples.
        """
        block, padded = math.gcd(self.n_fft, self.hop), LogMel.padded(self, waveforms)
        batch, samples = padded.shape
        frames, blocks = (samples - self.n_fft) // self.hop + 1, samples // block
        starts = torch.arange(frames) * (self.hop // block)
        places = starts[:, None] + torch.arange(self.n_fft // block)
        rows = padded[:, : blocks * block].reshape(batch, blocks, block)
        rows = torch.index_select(rows, 1, places.reshape(-1))
        return rows.reshape(batch, frames, self.n_fft)

    def _matrices(self) -> dict[str, Tensor]:
        """Return the window, the matrices of the transform, and the mel filters.

        Sample `columns * row + column` of a frame contributes to bin `part + rows * k` of part `part`.
        """
        part, row, column = (torch.arange(n) for n in (self.parts, self.rows, self.columns))
        real, imaginary = self._turns(part[:, None] * row * self.columns)
        bins = part[:, None] + self.rows * column
        c, s = self._turns(column[:, None] * bins[:, None])
        return {
            "window": 0.5 - 0.5 * self._turns(torch.arange(self.n_fft))[0],
            "over_rows": torch.stack([real, imaginary], dim=1).reshape(2 * self.parts, self.rows),
            "over_columns": torch.cat([torch.cat([c, s], dim=2), torch.cat([-s, c], dim=2)], dim=1),
            "filters": self._filters(bins),
        }

    def _turns(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of `steps` n_fft-th parts of a clockwise turn."""
        steps = steps * (self.circle // self.n_fft)
        return self._cosine(steps), self._cosine(steps + self.circle // 4)

    def _cosine(self, steps: Tensor) -> Tensor:
        steps = torch.remainder(steps, self.circle)
        steps = torch.minimum(steps, self.circle - steps)
        return torch.index_select(self.cosines, 0, steps.reshape(-1)).reshape(steps.shape)

    def _filters(self, bins: Tensor) -> Tensor:
        """Return the mel filters of the squares [parts * 2 * columns, mels], in the order of `bins`.

        Bins above n_fft / 2 mirror those below. The first part, and the last one of an even number of rows,
        hold both; there, the mirrored ones get the weight 0.
        """
        part = torch.arange(self.parts)[:, None]
        repeated = (bins * 2 > self.n_fft) & ((part == 0) | (part * 2 == self.rows))
        flat = torch.minimum(bins, self.n_fft - bins).reshape(-1)
        weights = torch.index_select(self.weights, 0, flat) * (~repeated).reshape(-1, 1)
        first = torch.index_select(self.first, 0, flat)[:, None]
        mel = torch.arange(self.mels)
        filters = (mel == first) * weights[:, :1] + (mel == first + 1) * weights[:, 1:]
        filters = filters.reshape(self.parts, self.columns, self.mels)
        return torch.cat([filters, filters], dim=1).reshape(-1, self.mels)


def _two_weights(filters: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first filter of each bin [bins], and the weights in that and the next filter [bins, 2]."""
    used = filters != 0
    first = used.int().argmax(dim=1)
    padded = torch.cat([filters, filters.new_zeros(len(filters), 1)], dim=1)
    weights = torch.stack([padded.gather(1, first[:, None] + i)[:, 0] for i in range(2)], dim=1)
    if not torch.equal(weights.count_nonzero(dim=1), used.sum(dim=1)):
        raise ValueError("a frequency bin belongs to filters that are not neighbours")
    return first, weights
