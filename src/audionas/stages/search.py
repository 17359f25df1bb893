"""`search@space,constraint,seed`: the best sub-networks for one constraint, cut out (section 2.4)."""

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
from audionas.search.strategies import Exhaustive, search, strategy_of
from audionas.stages.inputs import load_for, open_logmel


def run(config: Config, space: str, constraint: str, seed: int) -> None:
    """Scores, supernet and training clips to models/found and models/within, {space}-{constraint}-{seed}.pt.

    `found` is the paper's: what the strategy of params.yaml finds near the constraint, whose parameters may
    be over it by the tolerance. `within` is the best of all scored sub-networks at or under it.
    """
    device = prepare(config.training, seed)
    train = open_logmel(config, "train")
    supernet, about = load_for(paths.supernet(space, seed), train, load_supernet)
    search_space = SearchSpace(space, Architecture.of(config))
    scores = read_scores(paths.scores(space, seed), search_space, config.frames, paths.supernet(space, seed))
    budget, tolerance = parse_constraint(constraint), parse_size(config.search.tolerance)
    near = search_space.near(budget, tolerance, config.frames)
    within = search_space.within(budget, config.frames)
    size = config.training.batch_size
    batches = [x.to(device) for x in calibration_batches(train, size, config.calibration.batches)]
    for kind, path, candidates, name, strategy in (
        (
            "found",
            paths.found,
            near,
            config.search.strategy,
            strategy_of(config.search, search_space, near, seed),
        ),
        ("within", paths.within, within, "exhaustive", Exhaustive(within)),
    ):
        best, scored = search(strategy, search_space, scores)
        network = extract(supernet, best).to(device)
        calibrate(network, batches)
        save_model(
            path(space, constraint, seed),
            network,
            {
                **about,
                "kind": kind,
                "constraint": constraint,
                "ratios": list(best.ratios),
                "depths": list(best.depths),
                "valid_mAP": scores[best],
                "strategy": name,
                "candidates": len(candidates),
                "scored": scored,
            },
        )
