"""The training loop: one optimiser step after another, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from audionas.config import Training
from audionas.errors import UserError
from audionas.training.checkpoint import Checkpoint
from audionas.training.curves import Curves
from audionas.training.feed import Feed


def train(
    objective: Callable[[Tensor, Tensor, int], Tensor],
    feed: Feed,
    *,
    iterations: int,
    settings: Training,
    learning_rate: float,
    checkpoint: Checkpoint,
    curves: Path,
    validate: Callable[[], dict[str, float]],
    description: str,
) -> None:
    """Train `objective.network` in place with Adam (section 3.3), from the checkpoint on if there is one.

    All randomness comes from torch's global generator, whose state the checkpoint holds. The checkpoint is
    left behind; remove it once the network is written.

    Args:
        iterations: optimiser steps in all.
        settings: batch, schedule and how often to validate and to save.
        learning_rate: of the first step.
        curves: folder for DVCLive's curves: loss (mean since the last point) and what `validate` gives.
        validate: measures the network; must not draw from the global generator.
        description: before the progress bar.

    Raises:
        UserError: the loss is not finite; names the batch's clips. The last checkpoint stays.
    """
    network = objective.network
    optimiser = torch.optim.Adam(network.parameters(), lr=learning_rate)
    first, history, total = 0, [], 0.0
    if state := checkpoint.load():
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        feed.load_state_dict(state["feed"])
        torch.set_rng_state(state["generator"])
        if state["cuda_generators"]:
            torch.cuda.set_rng_state_all(state["cuda_generators"])
        first, history, total = state["iteration"], state["history"], state["total"]

    network.train()
    saved = time.monotonic()
    with (
        Curves(curves, history) as curve,
        tqdm(
            total=iterations, initial=first, desc=description, unit="it", mininterval=1.0, dynamic_ncols=True
        ) as bar,
    ):
        started = time.monotonic()
        for iteration in range(first, iterations):
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * _rate(settings.schedule, iteration / iterations)
            loss = objective(*feed.next(), iteration)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

            value = loss.item()
            if not math.isfinite(value):
                raise UserError(
                    f"{description}: the loss became {value} in iteration {iteration + 1}; lower the "
                    f"learning rate, or look at the batch's clips: {', '.join(feed.clip_ids())}"
                )
            total += value
            done = iteration + 1
            bar.update()
            rate = (done - first) * feed.batch_size / (time.monotonic() - started)
            bar.set_postfix_str(f"loss {value:.4f}, {rate:.0f} clips/s", refresh=False)

            if done % settings.valid_every == 0 or done == iterations:
                since = (done - 1) % settings.valid_every + 1
                point = {"iteration": done, "loss": total / since, **validate()}
                history.append(point)
                curve.add(point)
                network.train()
                total = 0.0
            if time.monotonic() - saved >= settings.checkpoint_seconds and done < iterations:
                checkpoint.save(
                    {
                        "network": network.state_dict(),
                        "optimiser": optimiser.state_dict(),
                        "feed": feed.state_dict(),
                        "generator": torch.get_rng_state(),
                        "cuda_generators": torch.cuda.get_rng_state_all()
                        if torch.cuda.is_available()
                        else [],
                        "iteration": done,
                        "history": history,
                        "total": total,
                    }
                )
                saved = time.monotonic()
    network.eval()


def _rate(schedule: str, progress: float) -> float:
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * progress))
