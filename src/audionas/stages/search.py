"""`search@space,constraint,seed`: the best sub-network for one constraint, cut out (section 2.4)."""

from __future__ import annotations

from audionas import paths
from audionas.config import Config, parse_constraint, parse_size
from audionas.device import prepare
from audionas.evaluation import calibration_batches
from audionas.models.architecture import Architecture
from audionas.models.calibration import calibrate
from audionas.models.modelfile import save_model
from audionas.models.supernet import extract, load_supernet
from audionas.search.scoring import read_scores
from audionas.search.space import SearchSpace
from audionas.search.strategies import search, strategy_of
from audionas.stages.inputs import load_for, open_logmel


def run(config: Config, space: str, constraint: str, seed: int) -> None:
    """Scores, supernet and training clips to models/found/{space}-{constraint}-{seed}.pt."""
    device = prepare(config.training, seed)
    train = open_logmel(config, "train")
    supernet, about = load_for(paths.supernet(space, seed), train, load_supernet)
    search_space = SearchSpace(space, Architecture.of(config))
    scores = read_scores(paths.scores(space, seed), search_space, config.frames, paths.supernet(space, seed))
    budget, tolerance = parse_constraint(constraint), parse_size(config.search.tolerance)
    candidates = search_space.near(budget, tolerance, config.frames)
    best, scored = search(strategy_of(config.search, search_space, candidates, seed), search_space, scores)
    network = extract(supernet, best).to(device)
    batches = calibration_batches(train, config.training.batch_size, config.calibration.batches)
    calibrate(network, (x.to(device) for x in batches))
    save_model(
        paths.found(space, constraint, seed),
        network,
        {
            **about,
            "kind": "found",
            "constraint": constraint,
            "ratios": list(best.ratios),
            "depths": list(best.depths),
            "valid_mAP": scores[best],
            "strategy": config.search.strategy,
            "candidates": len(candidates),
            "scored": scored,
        },
    )
