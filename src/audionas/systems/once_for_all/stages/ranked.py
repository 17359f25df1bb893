"""`ranked@index,seed`: a sub-network trained on its own, to see how well the supernet's scores rank such."""

from __future__ import annotations

import json

from audionas.evaluation.metrics import mean_average_precision
from audionas.evaluation.prediction import predict
from audionas.runtime.device import prepare
from audionas.runtime.files import atomic_write
from audionas.runtime.ranks import current
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.stages.single_network import train_alone


def run(config: Config, space: str, index: int, seed: int) -> None:
    """Sub-network `index` of a drawn order of the space, from fresh weights, by distillation.

    Writes models/ranked/{index}-{seed}.pt, and its validation mAP to
    results/scores/ranked/{index}-{seed}.json.
    """
    search_space = space_of(config, space)
    subnetwork = search_space.shuffled()[index]
    about = {"kind": "ranked", "space": space, "index": index}
    about |= {"ratios": list(subnetwork.ratios), "depths": list(subnetwork.depths)}
    path = paths.ranked(index, seed)
    form = search_space.architecture.widths(subnetwork), (2, *subnetwork.depths)
    train_alone(config, path, *form, "kd", "ranked", seed, about)
    valid = open_logmel(config, "valid")
    network, _ = load_for(path, valid)
    network = network.to(prepare(config.training, seed))
    score = mean_average_precision(valid.labels, predict(network, valid, config.training.batch_size))
    result = {"ratios": subnetwork.ratios, "depths": subnetwork.depths, "valid_mAP": score}
    if current().first:
        with atomic_write(paths.ranking(index, seed)) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    current().wait()  # none ends before it is written
