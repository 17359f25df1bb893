"""`individual@recipe,size,seed`, `init@constraint,seed`: individual trainings (OFA-AEC, 3.2 and 4.3)."""

from __future__ import annotations

from audionas.search.cnn10 import Cnn10Subnetwork
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config, parse_shape
from audionas.systems.once_for_all.stages.single_network import train_single_network


def run(config: Config, recipe: str, size: str, seed: int) -> None:
    """Train a uniform network of `size` (RATIOxDEPTH) with recipe `baseline` (labels) or `kd` (distillation).

    Writes models/individual/{recipe}-{size}-{seed}.pt.
    """
    ratio, depth = parse_shape(size)
    train_single_network(
        config,
        Cnn10Subnetwork((ratio,) * 3, (depth,) * 3),
        paths.individual(recipe, size, seed),
        stage=f"individual-{recipe}",
        seed=seed,
        recipe=recipe,
        about={"kind": "individual", "size": size},
    )


def run_init(config: Config, space: str, constraint: str, seed: int) -> None:
    """Train the architecture found for a constraint from initial weights by distillation ("Init+100K").

    Writes models/init/{constraint}-{seed}.pt.
    """
    _, found = load_for(paths.found(space, constraint, seed), open_logmel(config, "train"))
    train_single_network(
        config,
        Cnn10Subnetwork(tuple(found["ratios"]), tuple(found["depths"])),
        paths.init(constraint, seed),
        stage="init",
        seed=seed,
        recipe="kd",
        about={"kind": "init", "space": space, "constraint": constraint},
    )
