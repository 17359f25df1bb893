"""Stage `score@space,seed`: validation mAP and BatchNorm statistics of every sub-network (section 2.4)."""

from __future__ import annotations

from audionas.evaluation.prediction import calibration_batches
from audionas.models.files import load_supernet
from audionas.runtime.device import prepare
from audionas.runtime.files import atomic_write
from audionas.runtime.ranks import current
from audionas.supernet.scores import fingerprint
from audionas.supernet.scoring import score_space
from audionas.supernet.statistics import write_statistics
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config


def run(config: Config, space: str, seed: int) -> None:
    """Score every sub-network of models/supernet/{space}-{seed}.pt in one pass over data/logmel.

    Write results/scores/{space}-{seed}.csv (scores) and .npz (BatchNorm statistics). With both,
    `audionas specialize` cuts a network for any budget from the supernet, without data.
    """
    device = prepare(config.training, seed)
    train, valid = open_logmel(config, "train"), open_logmel(config, "valid")
    supernet, _ = load_for(paths.supernet(space, seed), valid, load_supernet)
    size = config.training.batch_size
    calibration = [x.to(device) for x in calibration_batches(train, size, config.calibration.batches)]
    search_space = space_of(config, space)
    name = fingerprint(paths.supernet(space, seed))
    table, statistics = score_space(supernet.to(device), search_space, calibration, valid, size, name)
    if current().first:
        with atomic_write(paths.scores(space, seed)) as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
        write_statistics(paths.statistics(space, seed), statistics, name)
    current().wait()  # no rank exits before the scores are written
