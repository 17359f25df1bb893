"""Reduce the iterations of an experiment, so that every stage runs in seconds. For CI only."""

import sys
from pathlib import Path

import yaml


def main() -> None:
    """Rewrite the parameters file given on the command line."""
    path = Path(sys.argv[1])
    params = yaml.safe_load(path.read_text(encoding="utf-8"))
    params["teacher"]["iterations"] = params["individual"]["iterations"] = 10
    params["supernet"] |= {"largest_iterations": 5, "sampled_iterations": 5}
    params["study"] |= {"spaces": ["2-2-x"], "constraints": params["study"]["constraints"][:2]}
    params["study"] |= {"sizes": params["study"]["sizes"][:1], "finetune_iterations": [3]}
    if params["corpus"]["name"] == "soundfont":
        params["corpus"]["clips"] = {"train": 120, "valid": 40, "test": 40}
    path.write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
