"""BatchNorm statistics of many sub-networks at once, and their file."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audionas.runtime.artifacts import remedy
from audionas.runtime.errors import UserError, os_error
from audionas.runtime.files import atomic_write
from audionas.runtime.npz import read_npz, write_npz

Key = tuple[int, ...]
_ARRAYS = ("supernet", "keys", "lengths", "channels", "batches", "means", "variances")


class NormStatistics:
    """BatchNorm statistics by layer and by the sequence of choices before that layer.

    The input of a layer depends only on the previous choices. Sub-networks with a common prefix therefore
    have exactly equal statistics and share them. Widths of one layer share them too, because a narrower
    layer uses the first channels. Statistics are cumulative averages over the batches, as in
    `nn.BatchNorm2d(momentum=None)`.

    Attributes:
        values: running mean [channels], running variance [channels] and number of batches, by key. The
            supernet defines the keys.
        collecting: True to update the statistics in `normalise`, False to use them.
    """

    def __init__(self) -> None:
        self.values: dict[Key, tuple[Tensor, Tensor, int]] = {}
        self.collecting = True

    def normalise(self, bn: nn.BatchNorm2d, x: Tensor, key: Key) -> Tensor:
        """Normalise x [batch, channels, ...] by its batch while collecting, else by the statistics."""
        c = x.shape[1]
        weight, bias = bn.weight[:c], bn.bias[:c]
        if not self.collecting:
            mean, variance, _ = self.values[key]
            return F.batch_norm(x, mean[:c], variance[:c], weight, bias, False, 0.0, bn.eps)
        mean, variance, count = self.values.get(key, (x.new_zeros(c), x.new_ones(c), 0))
        y = F.batch_norm(x, mean, variance, weight, bias, True, 1.0 / (count + 1), bn.eps)
        self.values[key] = (mean, variance, count + 1)
        return y

    def on_cpu(self) -> NormStatistics:
        """Return these statistics on the CPU, for use."""
        copied = NormStatistics()
        copied.collecting = False
        copied.values = {key: (m.cpu(), v.cpu(), count) for key, (m, v, count) in self.values.items()}
        return copied

    @staticmethod
    def union(parts: Iterable[NormStatistics]) -> NormStatistics:
        """Join the statistics of several sets of sub-networks. Of a key in several, the widest is kept."""
        joined = NormStatistics()
        joined.collecting = False
        for part in parts:
            for key, value in part.values.items():
                if key not in joined.values or len(value[0]) > len(joined.values[key][0]):
                    joined.values[key] = value
        return joined


def write_statistics(path: str | Path, statistics: NormStatistics, supernet: str) -> None:
    """Write statistics to an NPZ file. Equal statistics give equal bytes.

    Args:
        path: the file.
        statistics: of all sub-networks of a supernet, on the CPU.
        supernet: `fingerprint` of the supernet.
    """
    keys = sorted(statistics.values)
    means, variances, batches = zip(*(statistics.values[key] for key in keys), strict=True)
    arrays = {
        "supernet": np.array(supernet),
        "keys": np.array([choice for key in keys for choice in key], np.int32),
        "lengths": np.array([len(key) for key in keys], np.int32),
        "channels": np.array([len(mean) for mean in means], np.int32),
        "batches": np.array(batches, np.int64),
        "means": torch.cat(means).numpy(),
        "variances": torch.cat(variances).numpy(),
    }
    with atomic_write(path) as temporary:
        write_npz(temporary, arrays)


def read_statistics(path: Path, supernet: str) -> NormStatistics:
    """Read statistics for use.

    Args:
        path: the file.
        supernet: `fingerprint` of the supernet that the statistics must belong to.

    Raises:
        UserError: the file is missing or damaged, or belongs to another supernet.
    """
    fix = remedy(path)
    try:
        arrays = read_npz(path, _ARRAYS)
        _check(arrays)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; make it with `dvc repro`") from None
    except OSError as error:
        raise os_error(error, path) from None
    except Exception as error:  # a flipped bit may raise any error of zlib or NumPy
        why = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: not a readable file of BatchNorm statistics ({why}); {fix}") from None
    if str(arrays["supernet"]) != supernet:
        raise UserError(f"{path}: the statistics belong to another supernet; {fix}")
    statistics = NormStatistics()
    statistics.collecting = False
    keys = np.split(arrays["keys"], np.cumsum(arrays["lengths"])[:-1])
    sizes = arrays["channels"].tolist()
    means, variances = (torch.from_numpy(arrays[name]).split(sizes) for name in ("means", "variances"))
    for key, *value in zip(keys, means, variances, arrays["batches"].tolist(), strict=True):
        statistics.values[tuple(key.tolist())] = tuple(value)
    return statistics


def _check(arrays: dict[str, np.ndarray]) -> None:
    """Raise ValueError for arrays that `write_statistics` does not write."""
    if arrays["supernet"].dtype.kind != "U" or arrays["supernet"].ndim:
        raise ValueError("supernet: not a text")
    for name in _ARRAYS[1:]:
        array, kind = arrays[name], np.float32 if name in ("means", "variances") else np.integer
        if array.ndim != 1 or not np.issubdtype(array.dtype, kind):
            raise ValueError(f"{name}: {array.dtype} of shape {array.shape}")
        if not np.isfinite(array).all() or (name != "means" and (array < 0).any()):
            raise ValueError(f"{name}: a value is negative or not finite")
    lengths, channels = arrays["lengths"], arrays["channels"]
    if not len(lengths) == len(channels) == len(arrays["batches"]) > 0:
        raise ValueError("lengths, channels and batches differ in length")
    for name, sizes in (("keys", lengths), ("means", channels), ("variances", channels)):
        if len(arrays[name]) != sizes.sum(dtype=np.int64):
            raise ValueError(f"{name}: {len(arrays[name])} values, expected {sizes.sum(dtype=np.int64)}")
