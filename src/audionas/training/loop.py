"""The training loop. A resumed run gives bit-identical results."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from audionas.runtime.device import enough_memory, reseed
from audionas.runtime.errors import UserError
from audionas.runtime.interruption import Interrupted, watch
from audionas.runtime.ranks import current
from audionas.settings.training import Training
from audionas.training import schedules
from audionas.training.averaging import Average
from audionas.training.checkpoint import Checkpoint
from audionas.training.curves import Curves
from audionas.training.feed import Feed
from audionas.training.objectives.base import Objective

log = logging.getLogger(__name__)

_CHECK_LOSS_EVERY = {"cpu": 1, "cuda": 20}  # iterations; each check synchronises with the device
_LESS_MEMORY = (
    "lower training.batch_size or supernet.networks_per_step, or set training.precision to bfloat16 on a GPU"
)
_STEP = 2  # part of the seed; `feed` uses 0 and 1


def train(
    objective: Objective,
    feed: Feed,
    *,
    iterations: int,
    settings: Training,
    learning_rate: float,
    checkpoint: Checkpoint,
    curves: Path,
    validate: Callable[[nn.Module], dict[str, float]],
    description: str,
) -> float:
    """Train `objective.network` in place with Adam. Resumes from the checkpoint if there is one.

    All random draws depend only on the seed and the iteration, so there is no generator state to save.
    Each rank (see `audionas.runtime.ranks`) processes a part of every batch. Gradients are averaged once per
    step, and only the first rank writes files. A run may resume with a different number of ranks. The caller
    removes the checkpoint after the network is written.

    Args:
        objective: network and loss.
        feed: source of the batches.
        iterations: total number of optimiser steps.
        settings: schedule, averaging, precision, and intervals of validation and checkpoints.
        learning_rate: base learning rate; the schedule scales it in each step.
        checkpoint: where the state is saved.
        curves: folder for DVCLive curves: mean loss since the last point, and the values of `validate`.
        validate: returns metrics of a network; called on all ranks, with the trained or averaged weights.
        description: label of the progress bar and of messages.

    Returns:
        Duration in seconds, summed over all starts of the run.

    Raises:
        ValueError: the feed uses mixup and the objective does not allow it.
        UserError: the loss is not finite (lists the clips of the batch), memory or disk is too small, or
            another rank has ended. The last valid checkpoint is kept.
        Interrupted: SIGTERM, Ctrl-C or the time limit, after a checkpoint is written.
    """
    if feed.mixup_alpha and not objective.allows_mixup:
        raise ValueError("a stored target belongs to one clip; mixup_alpha must be 0 with it")
    ranks = current()
    run = _State(objective, feed, settings, learning_rate, iterations, description)
    if state := checkpoint.load():
        run.load_state_dict(state)
    run.network.train()
    saved, first = time.monotonic(), run.iteration
    with (
        watch() as interruption,
        Curves(curves, run.history) if ranks.first else nullcontext() as curve,
        tqdm(
            total=iterations,
            initial=first,
            desc=description,
            unit="it",
            mininterval=1.0,
            dynamic_ncols=True,
            disable=not ranks.first,
        ) as bar,
    ):
        last = started = time.monotonic()
        while run.iteration < iterations:
            run.step()
            bar.update()
            now = time.monotonic()
            run.seconds, last = run.seconds + now - last, now
            done, point = run.iteration, run.iteration % settings.valid_every == 0
            if not point and done < iterations and done % _CHECK_LOSS_EVERY[feed.device.type]:
                continue
            value = run.check_losses()
            rate = (done - first) * feed.batch_size / (time.monotonic() - started)
            bar.set_postfix_str(f"loss {value:.4f}, {rate:.0f} clips/s", refresh=False)
            if point or done == iterations:
                values = run.add_point(validate)
                if ranks.first:
                    curve.add(values)
            if done == iterations:
                break
            due = time.monotonic() - saved >= settings.checkpoint_seconds
            stop, due = ranks.highest(bool(interruption.reason), due)
            if (stop or due) and ranks.first:
                checkpoint.save(run.state_dict())
            if due:
                saved = time.monotonic()
            if stop:
                ranks.wait()  # the exit of one rank terminates the others
                reason = interruption.reason or "another rank"
                raise Interrupted(
                    f"{description}: stopped by {reason} after iteration {done} of {iterations}; run it "
                    f"again to resume from {checkpoint.path}"
                )
    if settings.compile:
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        log.info("%s: %d graphs compiled", description, graphs)
    run.average.finish()
    run.network.eval()
    return run.seconds + time.monotonic() - last


class _State:
    """State in a checkpoint: network, optimiser, weight average, iteration and training curve."""

    def __init__(
        self, objective, feed: Feed, settings: Training, learning_rate: float, iterations: int, name: str
    ):
        self.objective, self.feed, self.settings, self.name = objective, feed, settings, name
        self.learning_rate, self.iterations = learning_rate, iterations
        self.network, self.ranks = objective.network, current()
        on_gpu = feed.device.type == "cuda"
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=learning_rate, fused=on_gpu)
        self.average = Average(self.network, settings, iterations)
        self.iteration, self.history, self.total, self.since, self.seconds = 0, [], 0.0, 0, 0.0
        self._unchecked: list[Tensor] = []  # losses of the steps since the last check

    def step(self) -> None:
        """Run one optimiser step, without synchronising with the device."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate * schedules.rate(self.settings, self.iteration, self.iterations)
        self.objective.begin(self.iteration, self.companions())
        batch = self.feed.batch(self.iteration)
        reseed(self.feed.seed, _STEP, self.iteration, self.ranks.rank)  # for dropout
        doing = f"{self.name}, iteration {self.iteration + 1} with batches of {self.feed.batch_size} clips"
        try:
            with enough_memory(doing, _LESS_MEMORY):
                with torch.autocast(
                    self.feed.device.type, torch.bfloat16, enabled=self.settings.precision == "bfloat16"
                ):
                    loss = self.objective(batch, self.iteration)
                self.optimiser.zero_grad(set_to_none=True)
                loss.backward()
                self.ranks.average([p.grad for p in self.network.parameters() if p.grad is not None])
                self.optimiser.step()
        except RuntimeError as error:
            if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
                raise
            raise UserError(
                f"{self.name}: torch.compile failed ({str(error).strip().splitlines()[0]}); on a CPU it "
                "needs a C++ compiler; set training.compile to false"
            ) from error
        self._unchecked.append(loss.detach())
        self.iteration += 1
        self.average.update(self.iteration)

    def companions(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors with one element per weight: Adam's moments and the weight average, by parameter name."""
        for name, weight in self.network.named_parameters():
            for value in self.optimiser.state.get(weight, {}).values():
                if value.shape == weight.shape:
                    yield name, value
        yield from self.average.named_parameters()

    def check_losses(self) -> float:
        """Return the last loss. Raises UserError if a loss since the last check is not finite."""
        losses = torch.stack(self._unchecked).double()
        self.ranks.average([losses])
        values = losses.tolist()
        for iteration, value in enumerate(values, start=self.iteration - len(values)):
            if not math.isfinite(value):
                raise UserError(
                    f"{self.name}: the loss became {value} in iteration {iteration + 1}; lower the learning "
                    f"rate, or check the clips of the batch: {', '.join(self.feed.clip_ids(iteration))}"
                )
        for value in values:
            self.total += value
        self.since += len(values)
        self._unchecked.clear()
        return values[-1]

    def add_point(self, validate: Callable[[nn.Module], dict[str, float]]) -> dict[str, float]:
        """Add a point to the curve: the mean loss since the last point, and the values of `validate`."""
        measures = validate(self.average.measured())
        point = {"iteration": self.iteration, "loss": self.total / self.since, **measures}
        self.history.append(point)
        self.network.train()
        self.total, self.since = 0.0, 0
        return point

    def state_dict(self) -> dict[str, Any]:
        """Return the state as tensors and plain values."""
        return {
            "network": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average.state_dict(),
            "iteration": self.iteration,
            "history": self.history,
            "total": self.total,
            "since": self.since,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore a state from `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        for name in ("iteration", "history", "total", "since", "seconds"):
            setattr(self, name, state[name])
