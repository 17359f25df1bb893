"""The reference: reading and training as in PANNs (Kong et al., 2020), written from the publication.

Reading: an HDF5 file of int16 waveforms, opened for every clip. Every step computes log-mel, with the Fourier
transform as a convolution. Training: contiguous float32, Adam with amsgrad, sigmoid and binary cross-entropy.
Mixup combines a batch of twice the size after bn0 and SpecAugment.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchlibrosa.augmentation import SpecAugmentation
from torchlibrosa.stft import LogmelFilterBank, Spectrogram

from audionas.models import Cnn10


class Frontend(nn.Module):
    """Transform waveforms [batch, samples] to log-mel [batch, 1, frames, mels]."""

    def __init__(self) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(n_fft=1024, hop_length=320, win_length=1024, freeze_parameters=True)
        self.logmel = LogmelFilterBank(
            sr=32_000,
            n_fft=1024,
            n_mels=64,
            fmin=50,
            fmax=14_000,
            ref=1.0,
            amin=1e-10,
            top_db=None,
            freeze_parameters=True,
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """See the class."""
        return self.logmel(self.spectrogram(waveforms))


def read(path: Path, rows: np.ndarray) -> Tensor:
    """Read float32 [len(rows), samples] from int16 `waveform`; the file is opened for every clip."""
    waves = []
    for row in rows:
        with h5py.File(path, "r") as file:
            waves.append((file["waveform"][row] / 32767.0).astype(np.float32))
    return torch.from_numpy(np.array(waves))


class Network(nn.Module):
    """CNN10 with the computation of PANNs, and the layers, names and weights of `audionas.models.Cnn10`.

    Maps log-mel [2 * batch, frames, mels] and mixup weights [2 * batch] to probabilities [batch, classes].
    Without weights, it maps [batch, frames, mels] to [batch, classes].
    """

    def __init__(self, num_classes: int, base_channels: int):
        super().__init__()
        self.layers = Cnn10(num_classes, base_channels)
        self.spec_augmenter = SpecAugmentation(
            time_drop_width=64, time_stripes_num=2, freq_drop_width=8, freq_stripes_num=2
        )

    def forward(self, x: Tensor, shares: Tensor | None = None) -> Tensor:
        """See the class."""
        x = self.layers.bn0(x.unsqueeze(1).transpose(1, 3)).transpose(1, 3).contiguous()
        if self.training:
            x = self.spec_augmenter(x)
        if shares is not None:
            x = mix(x, shares)
        for i in range(1, 5):
            block = getattr(self.layers, f"block{i}")
            x = F.relu_(block.bn1(block.conv1(x)))
            x = F.relu_(block.bn2(block.conv2(x)))
            x = F.dropout(F.avg_pool2d(x, 2), 0.2, self.training)
        x = x.mean(dim=3)
        x = x.max(dim=2).values + x.mean(dim=2)
        x = F.dropout(x, 0.5, self.training)
        return torch.sigmoid(self.layers.fc2(F.relu_(self.layers.fc1(x))))


def mix(x: Tensor, shares: Tensor) -> Tensor:
    """Mix each even row with the next odd row: [2 * batch, ...] to [batch, ...]."""
    x = x.transpose(0, -1)
    return (x[..., 0::2] * shares[0::2] + x[..., 1::2] * shares[1::2]).transpose(0, -1)


def step(num_classes: int, base_channels: int, x: Tensor, y: Tensor) -> Callable[[], None]:
    """Run one training step on log-mel [2 * batch, frames, mels] and labels [2 * batch, classes]."""
    network = Network(num_classes, base_channels).train().to(x.device)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, amsgrad=True)
    rng = np.random.default_rng(0)

    def run() -> None:
        share = rng.beta(1.0, 1.0, len(x) // 2).astype(np.float32)
        shares = torch.from_numpy(np.stack([share, 1 - share], axis=1).reshape(-1)).to(x.device)
        loss = F.binary_cross_entropy(network(x, shares), mix(y, shares))
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        loss.item()

    return run
