"""Learning-rate schedules: the share of the learning rate that each iteration takes."""

from __future__ import annotations

import math

from audionas.settings.training import Training


def rate(settings: Training, iteration: int, iterations: int) -> float:
    """Share of the learning rate in `iteration` (from 0) of a run of `iterations`.

    Rises linearly for `warmup_iterations` (Goyal et al., 2017), from 1 / warmup_iterations up to 1; what is
    left of the run is constant (the paper) or half a cosine down to 0 (Loshchilov and Hutter, 2017).
    """
    warmup = settings.warmup_iterations
    if iteration < warmup:
        return (iteration + 1) / warmup
    if settings.schedule == "constant":
        return 1.0
    return 0.5 * (1 + math.cos(math.pi * ((iteration - warmup) / (iterations - warmup))))
