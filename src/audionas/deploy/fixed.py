"""Networks with fixed shapes, for targets whose operators take constant sizes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from audionas.models.cnn10 import BLOCKS, Cnn10

_HALVED = 2**BLOCKS  # each block halves time and mel


class Normalised(nn.Module):
    """Scale and shift each mel band of [batch, frames, mels], as BatchNorm does after training."""

    def __init__(self, bn: nn.BatchNorm2d):
        super().__init__()
        scale = bn.weight.detach() * (bn.running_var + bn.eps).rsqrt()
        self.register_buffer("scale", scale)
        self.register_buffer("shift", bn.bias.detach() - bn.running_mean * scale)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return x * self.scale + self.shift


class FixedCnn10(nn.Module):
    """A `Cnn10` for log-mel of one length, with layers that compilers for NPUs support.

    The global pooling consists of 2-D pools of constant size, because compilers run a mean or a maximum over
    an axis on the CPU. BatchNorm is part of the convolutions.

    Args:
        network: to rebuild, in eval mode; it keeps its weights.
        frames: of the input.

    Raises:
        ValueError: fewer frames than the pools take.
    """

    def __init__(self, network: Cnn10, frames: int):
        super().__init__()
        spec = network.spec
        time, mels = frames // _HALVED, spec["mels"] // _HALVED
        if not time or not mels:
            raise ValueError(
                f"{frames} frames of {spec['mels']} mels; the blocks need {_HALVED} of each or more"
            )
        self.normalised = Normalised(network.bn0)
        layers: list[nn.Module] = []
        for i in range(1, BLOCKS + 1):
            block = getattr(network, f"block{i}")
            for j in range(1, block.depth + 1):
                conv = fuse_conv_bn_eval(getattr(block, f"conv{j}"), getattr(block, f"bn{j}"))
                layers += [conv, nn.ReLU()]
            layers.append(nn.AvgPool2d(2))
        self.blocks = nn.Sequential(*layers, nn.AvgPool2d((1, mels)))
        self.largest, self.mean = nn.MaxPool2d((time, 1)), nn.AvgPool2d((time, 1))
        self.head = nn.Sequential(nn.Flatten(), network.fc1, nn.ReLU(), network.fc2)

    def forward(self, x: Tensor) -> Tensor:
        """Map log-mel in dB [batch, frames, mels] to logits [batch, classes]."""
        x = self.blocks(self.normalised(x).unsqueeze(1))
        return self.head(self.largest(x) + self.mean(x))


def with_fixed_shapes(network: nn.Module, frames: int) -> nn.Module:
    """Return the network for inputs of `frames` frames; another architecture than CNN10 is returned as is."""
    return FixedCnn10(network, frames).eval() if isinstance(network, Cnn10) else network
