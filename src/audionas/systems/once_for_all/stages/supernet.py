"""`supernet@space,seed`: once-for-all training by distillation (section 2.3)."""

from __future__ import annotations

from audionas.supernet.cnn10 import Cnn10Supernet
from audionas.supernet.scoring import score
from audionas.supernet.training import InPlace, OnceForAll
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.training_runs import training_run


def run(config: Config, space: str, seed: int) -> None:
    """models/teacher/{seed}.pt and data/logmel/{train,valid}.h5 to models/supernet/{space}-{seed}.pt."""
    search_space = space_of(config, space)
    network, schedule = config.network, config.supernet
    iterations = schedule.largest_iterations + schedule.sampled_iterations

    def build(device):
        store = open_logmel(config, "train")
        teacher, _ = load_for(paths.teacher(seed), store)
        supernet = Cnn10Supernet(
            search_space.architecture, block_dropout=network.block_dropout, head_dropout=network.head_dropout
        ).to(device)
        recipe = InPlace if config.distillation.in_place else OnceForAll
        options = {"seed": seed, "store": store, "batch_size": config.training.batch_size}
        return recipe(supernet, teacher, config.distillation, search_space, schedule, **options)

    ends = {"smallest": search_space.smallest, "largest": search_space.largest}

    def validate(supernet, store, calibration):
        """mAP of the two ends of the space; their statistics are estimated aside, the weights untouched."""
        scores = score(supernet, list(ends.values()), calibration, store, config.training.batch_size)
        return {f"valid_mAP_{name}": value for name, value in zip(ends, scores, strict=True)}

    training_run(
        config,
        paths.supernet(space, seed),
        build,
        stage="supernet",
        sections=("network", "augment", "distillation", "supernet", "calibration"),
        inputs=(paths.teacher(seed),),
        iterations=iterations,
        seed=seed,
        about={"kind": "supernet", "space": space, "recipe": "OFA", "iterations": iterations},
        validate=validate,
        finish=lambda *_: None,  # statistics belong to sub-networks; scoring and search estimate them
    )
