"""`individual@recipe,size,seed`, `init@constraint,seed`: networks trained one by one (sections 3.2, 4.3)."""

from __future__ import annotations

from audionas.search.cnn10 import Cnn10Subnetwork
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.architecture import architecture_of
from audionas.systems.once_for_all.config import Config, parse_shape
from audionas.systems.once_for_all.stages.single_network import train_alone


def run(config: Config, recipe: str, size: str, seed: int) -> None:
    """A uniform network of `size` (RATIOxDEPTH), by `baseline` (BCE) or `kd` (distillation).

    Writes models/individual/{recipe}-{size}-{seed}.pt.
    """
    ratio, depth = parse_shape(size)
    form = Cnn10Subnetwork((ratio,) * 3, (depth,) * 3)
    widths = architecture_of(config).widths(form)
    path = paths.individual(recipe, size, seed)
    about = {"kind": "individual", "size": size, "ratios": list(form.ratios), "depths": list(form.depths)}
    train_alone(config, path, widths, (2, *form.depths), recipe, f"individual-{recipe}", seed, about)


def run_init(config: Config, space: str, constraint: str, seed: int) -> None:
    """The architecture found for a constraint, from fresh weights, by distillation ("Init+100K").

    Writes models/init/{constraint}-{seed}.pt.
    """
    network, found = load_for(paths.found(space, constraint, seed), open_logmel(config, "train"))
    form = tuple(network.spec["widths"]), tuple(network.spec["depths"])
    about = {"kind": "init", "space": space, "constraint": constraint}
    about |= {name: found[name] for name in ("ratios", "depths")}
    train_alone(config, paths.init(constraint, seed), *form, "kd", "init", seed, about)
