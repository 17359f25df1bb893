"""Weights averaged over a run's iterations; they often generalise better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from audionas.settings.training import Training


class Average:
    """The mean of a network's weights over iterations, beside the trained weights; no mean for `none`.

    - `ema`: exponential (Polyak and Juditsky, 1992), theta <- d theta + (1 - d) w with d the decay; the plain
      mean as long as that forgets faster, so that the first weights do not linger (Mean Teacher, Tarvainen
      and Valpola, 2017).
    - `swa`: the plain mean over the last quarter of the iterations (Izmailov et al., 2018).

    BatchNorm's running statistics are not averaged, for a mean of weights has statistics of its own: they
    are estimated again before it is measured. `torch.optim.swa_utils.AveragedModel` lacks the late start and
    the early mean, and copies every buffer in every step.

    Args:
        network: the trained one.
        settings: the kind of average and its decay.
        iterations: of the run.
    """

    def __init__(self, network: nn.Module, settings: Training, iterations: int):
        self.network, self.settings, self.iterations = network, settings, iterations
        self.on = settings.averaging != "none"
        self.averaged = deepcopy(network).requires_grad_(False) if self.on else network
        self.count = 0  # of weights in the mean

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Add the network's weights after so many iterations; does not wait for the device."""
        if not self.on or (self.settings.averaging == "swa" and 4 * iteration <= 3 * self.iterations):
            return
        share = 1 / (self.count + 1)
        if self.settings.averaging == "ema":
            share = max(1 - self.settings.averaging_decay, share)
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), share)
        self.count += 1

    def measured(self) -> nn.Module:
        """What validation measures: the mean, or a copy of the trained network as long as there is none."""
        if self.on and not self.count:
            self.averaged.load_state_dict(self.network.state_dict())
        return self.averaged

    @torch.no_grad()
    def finish(self) -> None:
        """Put the mean into the network, at the end of the run."""
        weights = dict(self.network.named_parameters())
        for name, mean in self.named_parameters():
            weights[name].copy_(mean)

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]:
        """The mean, by the names of the network's parameters; nothing for `none`."""
        return self.averaged.named_parameters() if self.on else ()

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"count": self.count, "weights": dict(self.named_parameters())}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where `state_dict` was taken."""
        self.count = state["count"]
        for name, mean in self.named_parameters():
            mean.copy_(state["weights"][name])
