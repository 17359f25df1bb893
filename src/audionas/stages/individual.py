"""`individual@recipe,size,seed`, `init@constraint,seed`: networks trained one by one (sections 3.2, 4.3)."""

from __future__ import annotations

from pathlib import Path

from audionas import paths
from audionas.config import Config, parse_shape
from audionas.models.architecture import Architecture, Subnetwork
from audionas.stages.inputs import load_for, open_logmel
from audionas.stages.runs import fresh, training_run
from audionas.training.objectives import Distilled, Supervised


def run(config: Config, recipe: str, size: str, seed: int) -> None:
    """A uniform network of `size` (RATIOxDEPTH), by `baseline` (BCE) or `kd` (distillation).

    Writes models/individual/{recipe}-{size}-{seed}.pt.
    """
    ratio, depth = parse_shape(size)
    form = Subnetwork((ratio,) * 3, (depth,) * 3)
    widths = Architecture.of(config).widths(form)
    path = paths.individual(recipe, size, seed)
    _train(config, path, widths, (2, *form.depths), recipe, seed, {"kind": "individual", "size": size})


def run_init(config: Config, space: str, constraint: str, seed: int) -> None:
    """The architecture found for a constraint, from fresh weights, by distillation ("Init+100K").

    Writes models/init/{constraint}-{seed}.pt.
    """
    network, _ = load_for(paths.found(space, constraint, seed), open_logmel(config, "train"))
    form = tuple(network.spec["widths"]), tuple(network.spec["depths"])
    about = {"kind": "init", "space": space, "constraint": constraint}
    _train(config, paths.init(constraint, seed), *form, "kd", seed, about)


def _train(config: Config, path: Path, widths, depths, recipe: str, seed: int, about: dict) -> None:
    teacher_path = paths.teacher(seed)

    def build(device):
        network = fresh(config, widths=widths, depths=depths).to(device)
        if recipe == "baseline":
            return Supervised(network)
        store = open_logmel(config, "train")
        teacher, _ = load_for(teacher_path, store)
        return Distilled(network, teacher, config.distillation, store)

    iterations = config.individual.iterations
    training_run(
        config,
        path,
        build,
        sections=("network", "augment", "distillation", "individual", "calibration"),
        inputs=() if recipe == "baseline" else (teacher_path,),
        iterations=iterations,
        seed=seed,
        about={
            **about,
            "recipe": recipe,
            "iterations": iterations,
            "widths": list(widths),
            "depths": list(depths),
        },
    )
