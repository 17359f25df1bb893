"""Weight averaging over iterations. Averaged weights often generalise better than the last ones."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from audionas.settings.training import Training


class Average:
    """A running average of a network's weights, stored in a second network.

    - `none`: no average.
    - `ema`: exponential moving average (Polyak and Juditsky, 1992), theta <- d theta + (1 - d) w with decay
      d. Early in training it is the arithmetic mean, as in Mean Teacher (Tarvainen and Valpola, 2017), so
      that the initial weights are forgotten.
    - `swa`: arithmetic mean over the last quarter of the iterations (Izmailov et al., 2018).

    BatchNorm statistics are not averaged. They are estimated again before the averaged weights are measured.
    `torch.optim.swa_utils.AveragedModel` has neither the late start nor the early arithmetic mean, and it
    copies all buffers in every step.

    Args:
        network: the network that is trained.
        settings: kind of average and its decay.
        iterations: total number of iterations of the run.
    """

    def __init__(self, network: nn.Module, settings: Training, iterations: int):
        self.network, self.settings, self.iterations = network, settings, iterations
        self.on = settings.averaging != "none"
        self.averaged = deepcopy(network).requires_grad_(False) if self.on else network
        self.count = 0  # number of weight updates in the mean

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Add the network's current weights to the mean, without synchronising with the device."""
        if not self.on or (self.settings.averaging == "swa" and 4 * iteration <= 3 * self.iterations):
            return
        share = 1 / (self.count + 1)
        if self.settings.averaging == "ema":
            share = max(1 - self.settings.averaging_decay, share)
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), share)
        self.count += 1

    def measured(self) -> nn.Module:
        """Return the network to validate: the mean, or the trained weights before the mean starts."""
        if self.on and not self.count:
            self.averaged.load_state_dict(self.network.state_dict())
        return self.averaged

    @torch.no_grad()
    def finish(self) -> None:
        """Copy the mean into the trained network, at the end of the run."""
        weights = dict(self.network.named_parameters())
        for name, mean in self.named_parameters():
            weights[name].copy_(mean)

    def named_parameters(self) -> Iterable[tuple[str, Tensor]]:
        """Iterate over parameter names and averaged tensors; empty for `none`."""
        return self.averaged.named_parameters() if self.on else ()

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {"count": self.count, "weights": dict(self.named_parameters())}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.count = state["count"]
        for name, mean in self.named_parameters():
            mean.copy_(state["weights"][name])
