"""CNN10 of PANNs (Kong et al., 2020).

In PANNs the dropout after the first linear layer affects only the embedding, so this network omits it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audionas.models.layers.convolution import conv3x3, in_fastest_layout
from audionas.models.layers.normalisation import BatchNorm2d
from audionas.settings.values import Section

BLOCKS = 4

Width = Annotated[int, Field(gt=0, le=1 << 16)]
Share = Annotated[float, Field(ge=0, lt=1)]


class Cnn10Spec(Section):
    """Arguments of `Cnn10`, validated."""

    num_classes: Annotated[int, Field(gt=0, le=1_000_000)]
    base_channels: Width
    widths: Annotated[list[Width], Field(min_length=BLOCKS, max_length=BLOCKS)]
    depths: Annotated[list[Literal[1, 2]], Field(min_length=BLOCKS, max_length=BLOCKS)]
    hidden: Annotated[int, Field(gt=0, le=1 << 20)]
    mels: Annotated[int, Field(gt=0, le=1 << 16)]
    block_dropout: Share
    head_dropout: Share


class ConvBlock(nn.Module):
    """One or two [3x3 convolution, BatchNorm, ReLU], then a 2x2 average pool.

    Maps [batch, in_channels, time, mel] to [batch, out_channels, time // 2, mel // 2].
    """

    def __init__(self, in_channels: int, out_channels: int, depth: int = 2):
        super().__init__()
        self.depth = depth
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = BatchNorm2d(out_channels)
        if depth == 2:
            self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
            self.bn2 = BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = F.relu_(self.bn1(conv3x3(x, self.conv1.weight)))
        if self.depth == 2:
            x = F.relu_(self.bn2(conv3x3(x, self.conv2.weight)))
        return F.avg_pool2d(x, 2)


def pool_globally(x: Tensor) -> Tensor:
    """Pool [batch, channels, time, mel] to [batch, channels]: mean over mel, then max plus mean over time."""
    x = x.mean(dim=3)
    return x.amax(dim=2) + x.mean(dim=2)


class Cnn10(nn.Module):
    """CNN10, which maps log-mel [batch, frames, mels] in dB to logits [batch, num_classes].

    The default is CNN10 of PANNs: 5,219,279 parameters for 527 classes. `widths` and `depths` give smaller
    networks of the search space, with the same layers and names. A sigmoid gives probabilities.

    Args:
        num_classes: number of classes.
        base_channels: channels of the first block; each further block doubles them.
        widths: channels of the four blocks; overrides `base_channels`.
        depths: convolutions of the four blocks, 1 or 2 each.
        hidden: width of the first linear layer; by default the full width of block 4.
        mels: mel bins of the input.
        block_dropout: dropout after every block.
        head_dropout: dropout before the first linear layer.

    Raises:
        ValueError: `widths` or `depths` do not describe four blocks of depth 1 or 2.
    """

    name = "cnn10"

    def __init__(
        self,
        num_classes: int,
        base_channels: int = 64,
        *,
        widths: tuple[int, ...] | None = None,
        depths: tuple[int, ...] = (2, 2, 2, 2),
        hidden: int | None = None,
        mels: int = 64,
        block_dropout: float = 0.2,
        head_dropout: float = 0.5,
    ):
        super().__init__()
        full = tuple(base_channels * 2**i for i in range(BLOCKS))
        widths = tuple(widths or full)
        hidden = hidden or full[-1]
        if len(widths) != BLOCKS or len(depths) != BLOCKS or not set(depths) <= {1, 2}:
            raise ValueError(f"CNN10 has {BLOCKS} blocks of depth 1 or 2; got {widths} and {depths}")
        self.spec = {
            "num_classes": num_classes,
            "base_channels": base_channels,
            "widths": list(widths),
            "depths": list(depths),
            "hidden": hidden,
            "mels": mels,
            "block_dropout": block_dropout,
            "head_dropout": head_dropout,
        }
        self.block_dropout, self.head_dropout = block_dropout, head_dropout
        self.bn0 = BatchNorm2d(mels)
        for i, (inside, out, depth) in enumerate(zip((1, *widths), widths, depths, strict=False), start=1):
            self.add_module(f"block{i}", ConvBlock(inside, out, depth))
        self.fc1 = nn.Linear(widths[-1], hidden)
        self.fc2 = nn.Linear(hidden, num_classes)
        self.reset_parameters()

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Cnn10:
        """Build the network of a `spec`, with initial weights."""
        return cls(**spec)

    def reset_parameters(self) -> None:
        """Initialize weights as PANNs does: Xavier-uniform, with zero biases."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def normalise_input(self, x: Tensor, keep: Tensor | None) -> Tensor:
        """Apply bn0: [batch, frames, mels] to [batch, 1, frames, mels], zero where `keep` is False."""
        x = self.bn0(x.unsqueeze(1).transpose(1, 3)).transpose(1, 3)
        x = x if keep is None else x * keep.unsqueeze(1)
        return in_fastest_layout(x, self.spec["widths"][0])

    def head(self, x: Tensor) -> Tensor:
        """Map [batch, channels] to logits [batch, num_classes]."""
        x = F.dropout(x, self.head_dropout, self.training)
        return self.fc2(F.relu_(self.fc1(x)))

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        """Return logits [batch, num_classes].

        Args:
            x: log-mel in dB [batch, frames, mels].
            keep: mask of SpecAugment [batch, frames, mels]; the input is zero where it is False.
        """
        x = self.normalise_input(x, keep)
        for i in range(1, BLOCKS + 1):
            x = F.dropout(getattr(self, f"block{i}")(x), self.block_dropout, self.training)
        return self.head(pool_globally(x))
