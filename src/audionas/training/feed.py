"""Training batches: drawn, read, augmented and held on the device that computes."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from audionas.data.store import ClipStore
from audionas.evaluation.prediction import as_float
from audionas.runtime.device import reseed
from audionas.runtime.errors import UserError
from audionas.runtime.ranks import Ranks, current
from audionas.settings.audio import Augment
from audionas.settings.training import Training
from audionas.training.augment import draw_mixup, mix, spec_augment

_SHARE = 0.5  # of the device's free memory that a split may take
_ORDER, _BATCH = 0, 1  # what is drawn, so that no two draws follow from the same numbers


@dataclass(frozen=True)
class Batch:
    """What a step learns from.

    Attributes:
        x: float32 features [batch, frames, mels], or waveforms [batch, samples] in -1..1; mixed with mixup.
        y: labels float32 [batch, classes], mixed alike.
        keep: SpecAugment's mask [batch, frames, mels], 0 where the input is dropped; None without masks.
        rows: int64 [batch] of the store.
    """

    x: Tensor
    y: Tensor
    keep: Tensor | None
    rows: Tensor


@dataclass(frozen=True)
class _Drawn:
    """A batch before it is read: rows of the store, the first `clips` of them, and their mixup partners."""

    iteration: int
    rows: Tensor
    clips: int
    partner: Tensor | slice
    share: Tensor | None
    keep: Tensor | None


class Feed:
    """Batches of one size, each a function of the seed and the iteration alone.

    So a resumed run and any number of data-parallel ranks draw the same ones; each rank gets its part of a
    batch, disjoint from the others'. The store is held on the device whole where it fits; else the next rows
    are read to pinned memory while the step computes.

    Args:
        store: features or waveforms of the training split.
        settings: batch size (of all ranks together) and sampler. A batch may span the end of an epoch.
        augment: SpecAugment's masks; None for none. Waveforms have none.
        mixup_alpha: of Beta(alpha, alpha); 0 for none.
        device: that computes.
        seed: of all draws.
        resident: hold the split on the device; by default where it fits. The CPU reads the file.
        ranks: this process among others.

    Raises:
        UserError: the batch cannot be shared out evenly.
    """

    def __init__(
        self,
        store: ClipStore,
        settings: Training,
        augment: Augment | None = None,
        mixup_alpha: float = 0.0,
        device: torch.device | str = "cpu",
        seed: int = 0,
        resident: bool | None = None,
        ranks: Ranks | None = None,
    ):
        self.store, self.mixup_alpha, self.seed = store, mixup_alpha, seed
        masked = augment is not None and bool(augment.time_masks or augment.mel_masks)
        self.augment = augment if masked and len(store.data.shape) == 3 else None
        self.batch_size, self.device = settings.batch_size, torch.device(device)
        self.ranks = ranks or current()
        if self.batch_size % self.ranks.size:
            raise UserError(
                f"params.yaml: training.batch_size is {self.batch_size}, which {self.ranks.size} processes "
                "cannot share evenly; make it a multiple"
            )
        self.labels = torch.from_numpy(np.array(store.labels)).to(self.device)
        balanced = settings.sampler == "balanced"
        self._sampler = (_Balanced if balanced else _Uniform)(self.labels)
        self._orders: dict[int, Tensor] = {}
        self._data = None
        if self.device.type == "cuda" and (self._fits() if resident is None else resident):
            self._data = torch.from_numpy(np.array(store.data)).to(self.device)
        self._reader = ThreadPoolExecutor(1) if self._data is None and self.device.type == "cuda" else None
        self._prefetched: tuple[_Drawn, Future] | None = None

    def batch(self, iteration: int) -> Batch:
        """This rank's part of an iteration's batch; reseeds torch's global generators."""
        if self._reader is None:
            drawn = self._draw(iteration)
            x = self._read(drawn.rows)
        else:
            if self._prefetched is None or self._prefetched[0].iteration != iteration:
                self._prefetched = self._prefetch(iteration)
            drawn, reading = self._prefetched
            self._prefetched = self._prefetch(iteration + 1)
            x = reading.result().to(self.device, non_blocking=True)
        x, y, clips = as_float(x), self.labels[drawn.rows].float(), drawn.clips
        if drawn.share is not None:
            x, y = (mix(values[:clips], values[drawn.partner], drawn.share) for values in (x, y))
        return Batch(x, y, drawn.keep, drawn.rows[:clips])

    def clip_ids(self, iteration: int) -> list[str]:
        """Ids of an iteration's batch, all ranks' parts, for messages."""
        return [self.store.clip_ids[row] for row in self._rows(iteration).tolist()]

    def _rows(self, iteration: int) -> Tensor:
        """Rows [batch] that all ranks together learn from: the place of the iteration in endless epochs."""
        parts, start, left = [], iteration * self.batch_size, self.batch_size
        while left:
            epoch, at = divmod(start, self._sampler.epoch)
            parts.append(self._order(epoch)[at : at + left])
            start, left = start + len(parts[-1]), left - len(parts[-1])
        return torch.cat(parts)

    def _order(self, epoch: int) -> Tensor:
        if epoch not in self._orders:
            reseed(self.seed, _ORDER, epoch)
            before = {e: order for e, order in self._orders.items() if e == epoch - 1}
            self._orders = before | {epoch: self._sampler.draw(self.device)}
        return self._orders[epoch]

    def _draw(self, iteration: int) -> _Drawn:
        rows = self._rows(iteration)
        reseed(self.seed, _BATCH, iteration)
        places = self.ranks.share(range(self.batch_size))
        part, clips, keep = slice(places.start, places.stop), len(places), None
        if self.augment is not None:
            shape = self.store.data.shape[1:]
            keep = spec_augment(self.batch_size, *shape, self.augment, self.device, part)
        if not self.mixup_alpha:
            return _Drawn(iteration, rows[part], clips, slice(None), None, keep)
        share, partner = draw_mixup(self.batch_size, self.mixup_alpha, self.device)
        if self.ranks.size == 1:
            return _Drawn(iteration, rows, clips, partner, share, keep)
        both = torch.cat([rows[part], rows[partner[part]]])  # a partner may belong to another rank
        return _Drawn(iteration, both, clips, slice(clips, None), share[part], keep)

    def _fits(self) -> bool:
        free, _ = torch.cuda.mem_get_info(self.device)
        return self.store.data.nbytes < _SHARE * free

    def _read(self, rows: Tensor) -> Tensor:
        if self._data is not None:
            return self._data[rows]
        return torch.from_numpy(np.asarray(self.store.data[rows.numpy()]))

    def _prefetch(self, iteration: int) -> tuple[_Drawn, Future]:
        drawn = self._draw(iteration)
        return drawn, self._reader.submit(self._pinned, drawn.rows)

    def _pinned(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.store.data[rows.cpu().numpy()]).pin_memory()


class _Uniform:
    """Every clip once an epoch, in a drawn order."""

    def __init__(self, labels: Tensor):
        self.epoch = len(labels)

    def draw(self, device: torch.device) -> Tensor:
        """Rows of an epoch."""
        return torch.randperm(self.epoch, device=device)


class _Balanced:
    """One clip of every class an epoch, in a drawn order: PANNs' balanced sampling (Kong et al., 2020).

    PANNs goes through a class's clips in turn; here each is drawn anew, so that no class needs a position.
    Clips without a label count as a class of their own.
    """

    def __init__(self, labels: Tensor):
        if not (labelled := labels.any(dim=1)).all():
            labels = torch.cat([labels, (~labelled).to(labels.dtype)[:, None]], dim=1)
        classes, self._rows = labels.T.nonzero(as_tuple=True)
        kinds, self._counts = classes.unique(return_counts=True)
        self._starts = self._counts.cumsum(0) - self._counts
        self.epoch = len(kinds)

    def draw(self, device: torch.device) -> Tensor:
        """Rows of an epoch."""
        order = torch.randperm(self.epoch, device=device)
        counts = self._counts[order]
        within = (torch.rand(self.epoch, device=device) * counts).long().clamp_max(counts - 1)
        return self._rows[self._starts[order] + within]
