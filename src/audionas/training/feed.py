"""Training batches: sampling, reading, augmentation and transfer to the device."""

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

_SHARE = 0.5  # largest share of the device's free memory that a split may occupy
_ORDER, _BATCH = 0, 1  # part of each seed, so that epoch orders and batches use different random streams


@dataclass(frozen=True)
class Batch:
    """One training batch.

    Attributes:
        x: float32 features [batch, frames, mels], or waveforms [batch, samples] in -1..1, after mixup.
        y: float32 labels [batch, classes], after mixup.
        keep: SpecAugment mask [batch, frames, mels], 0 where the input is dropped; None without masks.
        rows: row numbers in the store, int64 [batch].
    """

    x: Tensor
    y: Tensor
    keep: Tensor | None
    rows: Tensor


@dataclass(frozen=True)
class _Drawn:
    """A batch before it is read.

    Attributes:
        iteration: the iteration of the batch.
        rows: row numbers to read: the clips, then their partners if another rank may hold them.
        clips: number of clips in the batch; they are the first rows.
        partner: positions in `rows` of the mixup partners.
        share: mixup weight of each clip [clips]; None without mixup.
        keep: SpecAugment mask; None without masks.
    """

    iteration: int
    rows: Tensor
    clips: int
    partner: Tensor | slice
    share: Tensor | None
    keep: Tensor | None


class Feed:
    """Produces batches of one size.

    A batch depends only on the seed and the iteration. A resumed run and any number of data-parallel ranks
    therefore draw the same batches. Each rank gets a disjoint part of a batch. On a GPU, the whole store is
    kept in device memory if it fits. Otherwise the next rows are read to pinned memory during the step.

    Args:
        store: features or waveforms of the training split.
        settings: batch size (over all ranks) and sampler. A batch may span the end of an epoch.
        augment: SpecAugment settings; None disables it. Waveforms are never masked.
        mixup_alpha: parameter of Beta(alpha, alpha); 0 disables mixup.
        device: device of the training.
        seed: seed of all random draws.
        resident: keep the split in GPU memory; by default if it fits. Ignored on the CPU.
        ranks: data-parallel ranks; by default those of this process.

    Raises:
        UserError: the batch size is not a multiple of the number of ranks.
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
                f"params.yaml: training.batch_size is {self.batch_size}, which is not a multiple of the "
                f"{self.ranks.size} processes; set it to a multiple"
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
        """Return this rank's part of an iteration's batch. Reseeds torch's global generators."""
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
        """Return the clip ids of an iteration's batch over all ranks, for error messages."""
        return [self.store.clip_ids[row] for row in self._rows(iteration).tolist()]

    def _rows(self, iteration: int) -> Tensor:
        """Row numbers [batch] over all ranks; `iteration` counts batches across all epochs."""
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
        both = torch.cat([rows[part], rows[partner[part]]])  # another rank may hold the partner
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
    """Uniform sampling: every clip once per epoch, in random order."""

    def __init__(self, labels: Tensor):
        self.epoch = len(labels)

    def draw(self, device: torch.device) -> Tensor:
        """Return the row numbers of one epoch, int64 [epoch]."""
        return torch.randperm(self.epoch, device=device)


class _Balanced:
    """Balanced sampling of PANNs (Kong et al., 2020): one clip of every class per epoch, in random order.

    PANNs iterates over the clips of a class. Here each clip is drawn at random, so there is no position to
    save. Clips without a label form a separate class.
    """

    def __init__(self, labels: Tensor):
        if not (labelled := labels.any(dim=1)).all():
            labels = torch.cat([labels, (~labelled).to(labels.dtype)[:, None]], dim=1)
        classes, self._rows = labels.T.nonzero(as_tuple=True)
        kinds, self._counts = classes.unique(return_counts=True)
        self._starts = self._counts.cumsum(0) - self._counts
        self.epoch = len(kinds)

    def draw(self, device: torch.device) -> Tensor:
        """Return the row numbers of one epoch, int64 [epoch]."""
        order = torch.randperm(self.epoch, device=device)
        counts = self._counts[order]
        within = (torch.rand(self.epoch, device=device) * counts).long().clamp_max(counts - 1)
        return self._rows[self._starts[order] + within]
