"""The log-mel front end for files of one length."""

from __future__ import annotations

import torch
from torch import Tensor

from audionas.audio.logmel import LogMel
from audionas.deploy.front_end import FrontEnd


class FixedFrontEnd(FrontEnd):
    """A `FrontEnd` for waveforms of one length, whose matrices are small and whose frames need no gather.

    A product with twiddle factors replaces a matrix for each part of the transform. For 8192 samples this
    saves 8 MB, and a file of LiteRT holds all matrices.

    Args:
        logmel: the front end to reproduce.
    """

    def __init__(self, logmel: LogMel):
        super().__init__(logmel, compact=True)
        part, column = torch.arange(self.parts), torch.arange(self.columns)
        matrices = self._matrices()
        real, imaginary = self._turns(part[:, None] * column)
        matrices["twiddle"] = torch.cat([real, real], dim=1)
        matrices["twiddle_turned"] = torch.cat([-imaginary, imaginary], dim=1)
        real, imaginary = self._turns(column[:, None] * column * self.rows)
        matrices["over_columns"] = torch.cat(
            [torch.cat([real, imaginary], dim=1), torch.cat([-imaginary, real], dim=1)]
        )
        filters = matrices["filters"].reshape(self.parts, 2, self.columns, self.mels)
        matrices["filters"] = filters[:, 0].reshape(self.parts * self.columns, self.mels)
        for name in list(self._buffers):
            delattr(self, name)
        for name, matrix in matrices.items():
            self.register_buffer(name, matrix.contiguous(), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """See `FrontEnd`."""
        x = self._frames(waveforms) * self.window
        batch, frames, columns = *x.shape[:2], self.columns
        x = self.over_rows @ x.reshape(batch, frames, self.rows, columns)
        x = x.reshape(batch, frames, self.parts, 2 * columns)  # real and imaginary outputs, side by side
        turned = torch.cat([x[..., columns:], x[..., :columns]], dim=-1)
        x = (x * self.twiddle + turned * self.twiddle_turned) @ self.over_columns
        power = x[..., :columns].square() + x[..., columns:].square()
        mel = power.reshape(batch, frames, self.parts * columns) @ self.filters
        return self._decibels(mel)

    def _frames(self, waveforms: Tensor) -> Tensor:
        """Return the frames [batch, frames, n_fft]: shifted rows of `hop` samples, side by side."""
        hop, padded = self.hop, LogMel.padded(self, waveforms)
        batch, samples = padded.shape
        frames, steps = (samples - self.n_fft) // hop + 1, -(-self.n_fft // hop)
        needed = (frames - 1 + steps) * hop
        spare = waveforms.new_zeros(batch, max(0, needed - samples))
        rows = torch.cat([padded, spare], dim=1)[:, :needed].reshape(batch, frames - 1 + steps, hop)
        shifted = [rows[:, step : step + frames] for step in range(steps)]
        return torch.cat(shifted, dim=2)[:, :, : self.n_fft]
