"""CNN10 as a supernet, and the extraction of its sub-networks (section 2 of OFA-AEC)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from itertools import groupby
from typing import Annotated, Any, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from audionas.models.cnn10 import BLOCKS, Cnn10, ConvBlock, Share, Width, pool_globally
from audionas.models.layers.convolution import conv3x3, in_fastest_layout
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space, Cnn10Subnetwork
from audionas.settings.values import Section
from audionas.supernet.base import SortableLayer, Supernet
from audionas.supernet.layers import DynamicConv2d, DynamicLinear
from audionas.supernet.statistics import Key, NormStatistics

_CONVOLUTIONS = [(block, layer) for block in (2, 3, 4) for layer in (1, 2)]  # the elastic convolutions
_READERS = [*(f"block{block}.conv{layer}" for block, layer in _CONVOLUTIONS[1:]), "fc1"]


class DynamicBlock(ConvBlock):
    """A convolution block whose width and depth are chosen in each call."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__(in_channels, out_channels)
        self.conv1 = DynamicConv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = DynamicConv2d(out_channels, out_channels, 3, padding=1, bias=False)


class Cnn10SupernetSpec(Section):
    """The specification of a `Cnn10Supernet`."""

    num_classes: Annotated[int, Field(gt=0, le=1_000_000)]
    base_channels: Width
    mels: Width
    width_rounding: Literal["floor", "nearest"]
    block_dropout: Share
    head_dropout: Share


class Cnn10Supernet(Cnn10, Supernet[Cnn10Subnetwork]):
    """A CNN10 whose blocks 2, 3 and 4 are elastic in width and depth. Its state dict is that of a CNN10.

    A key of BatchNorm statistics starts with (width, depth) of all previous blocks. It ends with 1 for the
    first layer of a block, and with (width, 2) for the second. The key of bn0 is empty.

    Args:
        architecture: the largest network.
        block_dropout, head_dropout: as in `Cnn10`.
    """

    name = "cnn10-supernet"
    # Only the largest network is trained before the channels are sorted. There, conv2 reads conv1, and the
    # next block reads conv2. With depth 1 the next block reads conv1, but does not determine its order.
    sortable = tuple(
        SortableLayer(f"block{block}.conv{layer}", f"block{block}.bn{layer}", reader)
        for (block, layer), reader in zip(_CONVOLUTIONS, _READERS, strict=True)
    )

    def __init__(
        self, architecture: Cnn10Architecture, *, block_dropout: float = 0.2, head_dropout: float = 0.5
    ):
        super().__init__(
            architecture.num_classes,
            architecture.base_channels,
            mels=architecture.mels,
            block_dropout=block_dropout,
            head_dropout=head_dropout,
        )
        self.architecture = architecture
        self.largest_spec = self.spec  # spec of the largest network as a `Cnn10`
        self.spec = {
            **asdict(architecture),
            "block_dropout": block_dropout,
            "head_dropout": head_dropout,
        }
        widths = self.largest_spec["widths"]
        for i in range(2, BLOCKS + 1):
            self.add_module(f"block{i}", DynamicBlock(widths[i - 2], widths[i - 1]))
        self.fc1 = DynamicLinear(widths[-1], self.largest_spec["hidden"])
        self.reset_parameters()

    @classmethod
    def from_spec(cls, spec: dict[str, Any]) -> Cnn10Supernet:
        """Build the supernet from a specification."""
        largest = {key: value for key, value in spec.items() if not key.endswith("_dropout")}
        dropouts = {key: value for key, value in spec.items() if key.endswith("_dropout")}
        return cls(Cnn10Architecture(**largest), **dropouts)

    def forward(self, x: Tensor, keep: Tensor | None = None, subnetwork: Cnn10Subnetwork = LARGEST) -> Tensor:
        """Return the logits [batch, classes] of one sub-network for x [batch, frames, mels]."""
        [(_, logits)] = self.outputs(x, [subnetwork], keep=keep)
        return logits

    def outputs(
        self,
        x: Tensor,
        subnetworks: Iterable[Cnn10Subnetwork],
        *,
        keep: Tensor | None = None,
        statistics: NormStatistics | None = None,
    ) -> Iterator[tuple[Cnn10Subnetwork, Tensor]]:
        """Yield each sub-network with its logits [batch, classes]. Common prefixes are computed once.

        The sub-networks form a tree: block 1 runs once, each variant of block 2 once, and so on. The first
        convolution of a block runs once for all widths, because a narrower one outputs the first channels of
        the widest. With `statistics`, the second convolution shares work too (`DynamicConv2d.widening`).
        Gradients of the sum equal those of separate passes; dropout masks are shared. The order is that of
        the tree, not of `subnetworks`. Duplicates are kept.

        Args:
            x: log-mel spectrograms [batch, frames, mels] in dB.
            subnetworks: sub-networks to run.
            keep: SpecAugment mask [batch, frames, mels].
            statistics: BatchNorm statistics to collect, or to use instead of the layers' running statistics;
                only without gradients.
        """
        members = [(self.architecture.widths(s), (2, *s.depths), s) for s in subnetworks]
        members.sort(key=lambda member: member[:2])

        def norm(bn: nn.BatchNorm2d, y: Tensor, key: Key) -> Tensor:
            return bn(y) if statistics is None else statistics.normalise(bn, y, key)

        x = norm(self.bn0, x.unsqueeze(1).transpose(1, 3), ()).transpose(1, 3)
        if keep is not None:
            x = x * keep.unsqueeze(1)
        x = in_fastest_layout(x, self.architecture.base_channels)
        yield from self._descend(x, 0, members, (), norm, statistics is not None)

    def prefix(self, subnetwork: Cnn10Subnetwork) -> tuple[int, ...]:
        """Return width and depth of blocks 2, 3 and 4."""
        pairs = zip(self.architecture.widths(subnetwork)[1:], subnetwork.depths, strict=True)
        return tuple(number for pair in pairs for number in pair)

    def space(self, name: str, frames: int) -> Cnn10Space:
        """See `Supernet`."""
        return Cnn10Space(name, self.architecture, frames)

    def extracted(self, subnetwork: Cnn10Subnetwork, statistics: NormStatistics | None = None) -> Cnn10:
        """See `Supernet` and `extract`."""
        return extract(self, subnetwork, statistics)

    def _descend(self, x: Tensor, level: int, members: Sequence, path: Key, norm, widening: bool) -> Iterator:
        if level == BLOCKS:
            logits = self.head(pool_globally(x))
            for *_, subnetwork in members:
                yield subnetwork, logits
            return
        block: ConvBlock = getattr(self, f"block{level + 1}")

        def conv(layer: nn.Conv2d, y: Tensor, width: int) -> Tensor:
            return layer(y, width) if level else conv3x3(y, layer.weight)

        widest = max(member[0][level] for member in members)
        channels = F.relu_(norm(block.bn1, conv(block.conv1, x, widest), (*path, 1)))
        deep = sorted({member[0][level] for member in members if member[1][level] == 2})
        sums = block.conv2.widening(channels, deep) if widening and level else None
        for width, alike in groupby(members, key=lambda m: m[0][level]):
            first = channels if width == widest else channels[:, :width]
            alike = sorted(alike, key=lambda m: m[1][level])
            for depth, group in groupby(alike, key=lambda m: m[1][level]):
                y = first
                if depth == 2:
                    y = next(sums) if sums else conv(block.conv2, first, width)
                    y = F.relu_(norm(block.bn2, y, (*path, width, 2)))
                y = F.dropout(F.avg_pool2d(y, 2), self.block_dropout, self.training)
                group = sorted(group, key=lambda m: m[0][level + 1 :])
                yield from self._descend(y, level + 1, group, (*path, width, depth), norm, widening)


def extract(
    supernet: Cnn10Supernet, subnetwork: Cnn10Subnetwork, statistics: NormStatistics | None = None
) -> Cnn10:
    """Return a sub-network as a `Cnn10` with copied weights.

    Args:
        supernet: source of the weights.
        subnetwork: sub-network to extract.
        statistics: its BatchNorm statistics; by default the running statistics of the supernet's layers.
    """
    architecture, spec = supernet.architecture, supernet.largest_spec
    widths = architecture.widths(subnetwork)
    depths = (2, *subnetwork.depths)
    network = Cnn10(**{**spec, "widths": widths, "depths": depths})
    large = supernet.state_dict()
    network.load_state_dict(
        {
            name: large[name][tuple(slice(n) for n in value.shape)].clone()
            for name, value in network.state_dict().items()
        }
    )
    if statistics is not None:
        path: Key = ()
        _set_statistics(network.bn0, statistics.values[path])
        for i, (width, depth) in enumerate(zip(widths, depths, strict=True), start=1):
            block = getattr(network, f"block{i}")
            _set_statistics(block.bn1, statistics.values[(*path, 1)])
            if depth == 2:
                _set_statistics(block.bn2, statistics.values[(*path, width, 2)])
            path = (*path, width, depth)
    return network.train(supernet.training)


def _set_statistics(bn: nn.BatchNorm2d, values: tuple[Tensor, Tensor, int]) -> None:
    mean, variance, count = values
    bn.running_mean.copy_(mean[: bn.num_features])
    bn.running_var.copy_(variance[: bn.num_features])
    bn.num_batches_tracked.fill_(count)
