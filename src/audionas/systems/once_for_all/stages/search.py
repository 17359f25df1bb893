"""Stage `search@space,constraint,seed`: extract the best sub-networks for one constraint (section 2.4)."""

from __future__ import annotations

from audionas.evaluation.prediction import calibration_batches
from audionas.models.calibration import calibrate
from audionas.models.files import load_supernet, save_model
from audionas.runtime.device import prepare
from audionas.search.budget import near, within
from audionas.search.strategies.base import search
from audionas.search.strategies.exhaustive import Exhaustive
from audionas.search.strategies.registry import strategy_of
from audionas.settings.values import parse_constraint, parse_size
from audionas.supernet.cnn10 import extract
from audionas.supernet.scores import read_scores
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config


def run(config: Config, space: str, constraint: str, seed: int) -> None:
    """Write {space}-{constraint}-{seed}.pt to models/found and models/within.

    `found` follows the paper: the strategy of params.yaml searches near the constraint, so the network may
    exceed the constraint by the tolerance. `within` is the best of all sub-networks within the constraint.
    """
    device = prepare(config.training, seed)
    train = open_logmel(config, "train")
    supernet, about = load_for(paths.supernet(space, seed), train, load_supernet)
    search_space = space_of(config, space)
    scores = read_scores(paths.scores(space, seed), search_space, paths.supernet(space, seed))
    budget, tolerance = parse_constraint(constraint), parse_size(config.search.tolerance)
    around, under = near(search_space, budget, tolerance), within(search_space, budget)
    strategy = strategy_of(config.search, search_space, around, seed)
    size = config.training.batch_size
    batches = [x.to(device) for x in calibration_batches(train, size, config.calibration.batches)]
    for kind, path, candidates, name, searcher in (
        ("found", paths.found, around, config.search.strategy, strategy),
        ("within", paths.within, under, "exhaustive", Exhaustive(under)),
    ):
        best, scored = search(searcher, search_space, scores)
        network = extract(supernet, best).to(device)
        calibrate(network, batches)
        metadata = {
            **about,
            "kind": kind,
            "constraint": constraint,
            "ratios": list(best.ratios),
            "depths": list(best.depths),
            "valid_mAP": scores[best],
            "strategy": name,
            "candidates": len(candidates),
            "scored": scored,
        }
        save_model(path(space, constraint, seed), network, metadata)
