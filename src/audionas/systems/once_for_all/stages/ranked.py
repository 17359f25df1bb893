"""Stage `ranked@index,seed`: train one sub-network individually, to test the supernet's ranking."""

from __future__ import annotations

import json

from audionas.runtime.files import atomic_write
from audionas.runtime.ranks import current
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.stages.single_network import train_single_network


def run(config: Config, space: str, index: int, seed: int) -> None:
    """Train sub-network `index` of `FiniteSpace.shuffled` from initial weights by distillation.

    Writes the network to models/ranked/{index}-{seed}.pt, and its validation mAP to
    results/scores/ranked/{index}-{seed}.json.
    """
    subnetwork = space_of(config, space).shuffled()[index]
    measured = train_single_network(
        config,
        subnetwork,
        paths.ranked(index, seed),
        stage="ranked",
        seed=seed,
        recipe="kd",
        about={"kind": "ranked", "space": space, "index": index},
    )
    result = {"ratios": subnetwork.ratios, "depths": subnetwork.depths, "valid_mAP": measured["valid_mAP"]}
    if current().first:
        with atomic_write(paths.ranking(index, seed)) as temporary:
            temporary.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    current().wait()  # no rank exits before the file is written
