"""Tables from the stored scores of all sub-networks: Pareto front, candidates, and rank correlation."""

from __future__ import annotations

import numpy as np
import pandas as pd

from audionas.reporting.intervals import Interval, kendall, regret
from audionas.search.budget import near
from audionas.search.cnn10 import Cnn10Subnetwork
from audionas.search.pareto import pareto_front
from audionas.search.tables import space_table
from audionas.settings.values import parse_constraint, parse_size
from audionas.supernet.scores import read_scores
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import space_of
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.results import read_result

_ENOUGH = 6  # fewest individual networks for a rank correlation


class Scores:
    """The stored scores of a study: validation mAP of all sub-networks, per space and seed.

    Raises:
        UserError: scores are missing or damaged.
    """

    def __init__(self, config: Config):
        self.config = config
        self.spaces = {name: space_of(config, name) for name in config.study.spaces}
        self._read = {
            (name, seed): read_scores(paths.scores(name, seed), space)
            for name, space in self.spaces.items()
            for seed in config.study.seeds
        }

    def of(self, space: str, seed: int) -> dict[Cnn10Subnetwork, float]:
        """Return the validation mAP of every sub-network, between 0 and 1."""
        return self._read[space, seed]


def all_networks(scores: Scores) -> pd.DataFrame:
    """Return one row per sub-network: architecture, costs, and validation mAP x 100 per seed and as mean.

    The column `front` marks the Pareto front of parameters and mean score over all spaces.
    """
    seeds, tables = scores.config.study.seeds, []
    for name, space in scores.spaces.items():
        table = space_table(space)
        table.insert(0, "space", name)
        for seed in seeds:
            table[f"valid mAP {seed}"] = [100 * scores.of(name, seed)[s] for s in space]
        table["valid mAP"] = table[[f"valid mAP {seed}" for seed in seeds]].mean(axis=1)
        tables.append(table)
    networks = pd.concat(tables, ignore_index=True)
    networks["front"] = pareto_front(networks.params.to_numpy(), networks["valid mAP"].to_numpy())
    return networks


def near_constraints(scores: Scores) -> pd.DataFrame:
    """Return one row per seed and sub-network near a constraint; `valid mAP` is x 100."""
    config, rows = scores.config, []
    tolerance = parse_size(config.search.tolerance)
    for name, space in scores.spaces.items():
        found = {
            constraint: near(space, parse_constraint(constraint), tolerance)
            for constraint in config.study.constraints
        }
        for seed in config.study.seeds:
            values = scores.of(name, seed)
            for constraint, subnetworks in found.items():
                for s in subnetworks:
                    rows.append((name, constraint, seed, str(s), space.costs(s).params, 100 * values[s]))
    return pd.DataFrame(rows, columns=["space", "constraint", "seed", "network", "params", "valid mAP"])


def over_seeds(near: pd.DataFrame) -> pd.DataFrame:
    """Average the scores of `near_constraints` over seeds."""
    names = ["space", "constraint", "network", "params"]
    return near.groupby(names, sort=False)["valid mAP"].mean().reset_index()


def windows(near: pd.DataFrame, population: int, draws: int) -> pd.DataFrame:
    """Return the candidates of each space and constraint: count, spread, and regret of random search.

    Regret is the validation mAP x 100 of the best candidate minus that of the best of 5, or of `population`,
    random candidates. It is the mean of `draws` searches and of all seeds, and 0 for fewer candidates.
    """
    rows = []
    for (space, constraint), group in near.groupby(["space", "constraint"], sort=False):
        scores = [g["valid mAP"].to_numpy() for _, g in group.groupby("seed", sort=False)]
        row = {"Space": space, "Constraint": constraint, "Candidates": len(scores[0])}
        measures = {
            "best": [s.max() for s in scores],
            "median": [np.median(s) for s in scores],
            "deviation": [s.std(ddof=1) if len(s) > 1 else np.nan for s in scores],
        }
        for size in sorted({5, population}):
            measures[f"regret of {size}"] = [regret(s, size, draws).mean() for s in scores]
        for name, values in measures.items():
            row |= {
                name: np.mean(values),
                f"sd {name}": np.std(values, ddof=1) if len(values) > 1 else np.nan,
            }
        rows.append(row)
    return pd.DataFrame(rows)


def ranked(scores: Scores) -> pd.DataFrame:
    """Return the sub-networks that were also trained individually, with both validation mAP x 100 per seed.

    Raises:
        UserError: a result is missing or damaged.
    """
    study, rows = scores.config.study, []
    space = scores.spaces[study.chosen_space]
    order = space.shuffled()
    for seed in study.seeds:
        for index in study.ranked:
            subnetwork = order[index]
            alone = read_result(paths.ranking(index, seed), "valid_mAP")["valid_mAP"]
            both = 100 * scores.of(space.name, seed)[subnetwork], 100 * alone
            rows.append((str(subnetwork), space.costs(subnetwork).params, seed, *both))
    return pd.DataFrame(rows, columns=["Network", "params", "seed", "in the supernet", "on its own"])


def rank_correlation(ranking: pd.DataFrame, draws: int) -> Interval | None:
    """Return Kendall's tau between the scores in the supernet and those of individual training.

    None for fewer than `_ENOUGH` networks, because the interval would be meaningless.
    """
    groups = [group for _, group in ranking.groupby("seed", sort=False)]
    if not groups or len(groups[0]) < _ENOUGH:
        return None
    pairs = [[g[name].to_numpy() for g in groups] for name in ("in the supernet", "on its own")]
    return kendall(*pairs, draws)
