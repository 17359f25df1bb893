"""`search@space,constraint,seed`: the best sub-networks for one constraint, cut out (section 2.4)."""

from __future__ import annotations

from audionas.evaluation.prediction import calibration_batches
from audionas.models.calibration import calibrate
from audionas.models.files import load_supernet, save_model
from audionas.runtime.device import prepare
from audionas.search.cnn10 import Cnn10Space
from audionas.search.strategies import Exhaustive, search, strategy_of
from audionas.settings.values import parse_constraint, parse_size
from audionas.supernet.cnn10 import extract
from audionas.supernet.scoring import read_scores
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import architecture_of
from audionas.systems.once_for_all.config import Config


def run(config: Config, space: str, constraint: str, seed: int) -> None:
    """Scores, supernet and training clips to models/found and models/within, {space}-{constraint}-{seed}.pt.

    `found` is the paper's: what the strategy of params.yaml finds near the constraint, whose parameters may
    be over it by the tolerance. `within` is the best of all scored sub-networks at or under it.
    """
    device = prepare(config.training, seed)
    train = open_logmel(config, "train")
    supernet, about = load_for(paths.supernet(space, seed), train, load_supernet)
    search_space = Cnn10Space(space, architecture_of(config))
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
