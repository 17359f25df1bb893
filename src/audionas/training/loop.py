"""The training loop: one optimiser step after another, resumable to the bit."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from audionas.config import Training
from audionas.errors import UserError
from audionas.training.checkpoint import Checkpoint
from audionas.training.curves import Curves
from audionas.training.feed import Batch, Feed
from audionas.training.interruption import Interrupted, watch

_LOOK = {"cpu": 1, "cuda": 20}  # iterations between looks at the loss, each of which waits for the device


def train(
    objective: Callable[[Batch, int], Tensor],
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

    All randomness comes from torch's global generators, whose states the checkpoint holds. The checkpoint is
    left behind; remove it once the network is written.

    Args:
        iterations: optimiser steps in all.
        settings: schedule, precision, and how often to validate and to save.
        learning_rate: of the first step.
        curves: folder for DVCLive's curves: loss (mean since the last point) and what `validate` gives.
        validate: measures the network; must not draw from the global generators.
        description: before the progress bar.

    Raises:
        UserError: the loss is not finite (names the batch's clips), or memory or disk are too small. The
            last good checkpoint stays.
        Interrupted: SIGTERM or the time limit; a checkpoint was written.
    """
    run = _Run(objective, feed, settings, learning_rate, iterations, description)
    if state := checkpoint.load():
        run.load_state_dict(state)
    run.network.train()
    saved, first = time.monotonic(), run.iteration
    with (
        watch() as interruption,
        Curves(curves, run.history) as curve,
        tqdm(
            total=iterations, initial=first, desc=description, unit="it", mininterval=1.0, dynamic_ncols=True
        ) as bar,
    ):
        started = time.monotonic()
        while run.iteration < iterations:
            run.step()
            bar.update()
            done, point = run.iteration, run.iteration % settings.valid_every == 0
            reason = interruption.reason
            save = done < iterations and (reason or time.monotonic() - saved >= settings.checkpoint_seconds)
            if point or save or done == iterations or done % _LOOK[feed.device.type] == 0:
                value = run.look()
                rate = (done - first) * feed.batch_size / (time.monotonic() - started)
                bar.set_postfix_str(f"loss {value:.4f}, {rate:.0f} clips/s", refresh=False)
            if point or done == iterations:
                curve.add(run.close_point(validate))
            if save:
                checkpoint.save(run.state_dict())
                saved = time.monotonic()
            if save and reason:
                raise Interrupted(
                    f"{description}: stopped by {reason} after iteration {done} of {iterations}; run it "
                    f"again to go on from {checkpoint.path}"
                )
    run.network.eval()


class _Run:
    """What a checkpoint holds: network, optimiser, feed, generators, and the curve so far."""

    def __init__(
        self, objective, feed: Feed, settings: Training, learning_rate: float, iterations: int, name: str
    ):
        self.objective, self.feed, self.settings, self.name = objective, feed, settings, name
        self.learning_rate, self.iterations = learning_rate, iterations
        self.network = objective.network
        on_gpu = feed.device.type == "cuda"
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate, fused=on_gpu)
        self.iteration, self.history, self.total, self.since = 0, [], 0.0, 0
        self._unseen: list[tuple[Tensor, Tensor]] = []  # loss and rows of every step since the last look

    def step(self) -> None:
        """One optimiser step; waits for nothing."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * _rate(self.settings.schedule, self.iteration / self.iterations)
        batch = self.feed.next()
        try:
            with torch.autocast(
                self.feed.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"
            ):
                loss = self.objective(batch, self.iteration)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            self.optimiser.step()
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            raise UserError(
                f"{self.name}: out of memory in iteration {self.iteration + 1} with batches of "
                f"{self.feed.batch_size} clips; lower training.batch_size or supernet.networks_per_step, or "
                "set training.precision to bfloat16 on a GPU"
            ) from error
        self._unseen.append((loss.detach(), batch.rows))
        self.iteration += 1

    def look(self) -> float:
        """The last loss; raises UserError where one since the last look is not finite."""
        values = torch.stack([loss for loss, _ in self._unseen]).tolist()
        for back, (value, (_, rows)) in enumerate(zip(reversed(values), reversed(self._unseen), strict=True)):
            if not math.isfinite(value) and all(map(math.isfinite, values[: len(values) - back - 1])):
                raise UserError(
                    f"{self.name}: the loss became {value} in iteration {self.iteration - back}; lower the "
                    f"learning rate, or look at the batch's clips: {', '.join(self.feed.clip_ids(rows))}"
                )
        for value in values:
            self.total += value
        self.since += len(values)
        self._unseen.clear()
        return values[-1]

    def close_point(self, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
        """A point of the curve: the mean loss since the last one, and what `validate` gives."""
        point = {"iteration": self.iteration, "loss": self.total / self.since, **validate()}
        self.history.append(point)
        self.network.train()
        self.total, self.since = 0.0, 0
        return point

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "feed": self.feed.state_dict(),
            "generator": torch.get_rng_state(),
            "cuda_generators": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
            "iteration": self.iteration,
            "history": self.history,
            "total": self.total,
            "since": self.since,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where `state_dict` was taken."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.feed.load_state_dict(state["feed"])
        torch.set_rng_state(state["generator"])
        if state["cuda_generators"]:
            torch.cuda.set_rng_state_all(state["cuda_generators"])
        for name in ("iteration", "history", "total", "since"):
            setattr(self, name, state[name])


def _is_out_of_memory(error: RuntimeError) -> bool:
    """The CPU's allocator raises a plain RuntimeError."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def _rate(schedule: str, progress: float) -> float:
    return 1.0 if schedule == "constant" else 0.5 * (1 + math.cos(math.pi * progress))
