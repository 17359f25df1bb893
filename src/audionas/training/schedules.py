"""Learning-rate schedules: the factor of the learning rate in each iteration."""

from __future__ import annotations

import math

from audionas.settings.training import Training


def rate(settings: Training, iteration: int, iterations: int) -> float:
    """Return the factor of the learning rate in `iteration` (from 0) of a run of `iterations`.

    The factor rises linearly from 1 / warmup_iterations to 1 (Goyal et al., 2017). After the warm-up it is
    constant (OFA-AEC) or follows half a cosine down to 0 (Loshchilov and Hutter, 2017).
    """
    warmup = settings.warmup_iterations
    if iteration < warmup:
        return (iteration + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * ((iteration - warmup) / (iterations - warmup))))
