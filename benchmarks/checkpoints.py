"""Cost of writing and reading checkpoints."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from audionas.models import Cnn10
from audionas.training.checkpoint import Checkpoint
from benchmarks.ceilings import disk
from benchmarks.timing import interleaved

EVERY = 60.0  # seconds between checkpoints, the default of training.checkpoint_seconds


def _trained(width: int, classes: int) -> tuple[nn.Module, torch.optim.Optimizer]:
    """Return a network and an optimiser with both moments, as after a step."""
    network = Cnn10(classes, width)
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-3)
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    optimiser.step()
    return network, optimiser


def resume(width: int = 64, classes: int = 527) -> dict:
    """Write and read a checkpoint of CNN10. The reference is torch.save of the objects over the old file."""
    network, optimiser = _trained(width, classes)
    with TemporaryDirectory(dir=".") as folder:
        checkpoint, plain = Checkpoint("resume", "0", Path(folder)), Path(folder, "plain.pt")

        def save() -> None:
            checkpoint.save({"network": network.state_dict(), "optimiser": optimiser.state_dict()})

        def load() -> None:
            state = checkpoint.load()
            network.load_state_dict(state["network"])
            optimiser.load_state_dict(state["optimiser"])

        actions = (
            save,
            load,
            lambda: torch.save((network, optimiser), plain),
            lambda: torch.load(plain, weights_only=False),
        )
        written, read, their_written, their_read = interleaved(*actions)
        size = checkpoint.path.stat().st_size
        least_written, least_read = disk(checkpoint.path.read_bytes(), Path(folder, "floor"))
    return {
        "what": f"to write and to read the checkpoint of a CNN10 of {width} channels, {size / 1e6:.0f} MB; "
        "reference: torch.save and torch.load of the objects, which neither waits for the disk nor renames, "
        "so that a kill can leave half a file",
        "unit": "s",
        "ours": written + read,
        "reference": their_written + their_read,
        "floor": least_written + least_read,
        "counted": "as many bytes written to the disk at hand and waited for, and read again",
        "table": [
            {
                "": name,
                "ours, s": f"{ours:.3f}",
                "reference, s": f"{theirs:.3f}",
                "floor, s": f"{least:.3f}",
                f"share of {EVERY:g} s": share,
            }
            for name, ours, theirs, least, share in (
                ("write", written, their_written, least_written, f"{written / EVERY:.2%}"),
                ("read", read, their_read, least_read, ""),
            )
        ],
    }
