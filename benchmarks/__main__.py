"""`python -m benchmarks NAME [--json FILE]`: ours, the reference, and how many times better ours is."""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from audionas.audio import LogMel
from audionas.models import Supernet, extract
from audionas.models.architecture import Architecture
from audionas.models.calibration import calibrate
from audionas.models.supernet import calibrate_all
from audionas.search import SearchSpace
from audionas.store import ClipStore, write_store
from benchmarks.features import features
from benchmarks.lists import lists
from benchmarks.resample import resample
from benchmarks.timing import seconds


@torch.no_grad()
def score_space() -> dict:
    """All 128 sub-networks of 2-2-x with shared prefixes; reference: the paper's 25, one by one."""
    torch.manual_seed(0)
    space = SearchSpace("2-2-x", Architecture(10, 16, 64))
    supernet = Supernet(space.architecture).eval()
    x = torch.randn(16, 251, 64) * 10 - 40
    statistics_ = calibrate_all(supernet, list(space), [x])
    drawn = [space.subnetworks[i] for i in np.random.default_rng(0).permutation(len(space))[:25]]
    networks = [extract(supernet, subnetwork) for subnetwork in drawn]
    for network in networks:
        calibrate(network, [x])

    def ours():
        return [logits for _, logits in supernet.outputs(x, space, statistics=statistics_)]

    return {
        "what": "a batch of 16 clips through 128 sub-networks; reference: 25 of them one by one",
        "unit": "s",
        "ours": seconds(ours),
        "reference": seconds(lambda: [network(x) for network in networks]),
    }


def supernet_step() -> dict:
    """Forward and backward of four sampled sub-networks, shared; reference: four separate passes."""
    torch.manual_seed(0)
    space = SearchSpace("2-2-x", Architecture(10, 16, 64))
    supernet = Supernet(space.architecture).train()
    x = torch.randn(16, 251, 64) * 10 - 40
    four = [space.subnetworks[i] for i in (5, 40, 77, 120)]

    def ours():
        sum(z.square().mean() for _, z in supernet.outputs(x, four)).backward()

    def reference():
        for subnetwork in four:
            supernet(x, None, subnetwork).square().mean().backward()

    return {
        "what": "forward and backward of 4 sampled sub-networks, 16 clips; reference: separate passes",
        "unit": "s",
        "ours": seconds(ours),
        "reference": seconds(reference),
    }


def loader() -> dict:
    """Batches from the memory-mapped store; reference: PANNs' way, the file opened for every clip."""
    import h5py

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        feature_path, wave_path = Path(folder, "logmel.h5"), Path(folder, "waves.h5")
        n, samples = 256, 160_000
        rows = rng.normal(size=(n, 501, 64)).astype(np.float16)
        write_store(feature_path, [*map(str, range(n))], np.ones((n, 1)), rows, classes=["a"], settings={})
        with h5py.File(wave_path, "w") as file:
            file["waveform"] = rng.integers(-9999, 9999, (n, samples), dtype=np.int16)
        store, frontend = ClipStore(feature_path), LogMel()
        rows = rng.permutation(n)[:64]

        def reference():
            waves = []
            for row in rows:
                with h5py.File(wave_path) as file:
                    waves.append(file["waveform"][row] / np.float32(32767))
            return frontend(torch.from_numpy(np.stack(waves)))

        return {
            "what": "64 clips of 5 s as log-mel; reference: int16 waveforms, file opened for every clip, "
            "features computed in the step",
            "unit": "s",
            "ours": seconds(lambda: torch.from_numpy(np.asarray(store.data[rows])).float()),
            "reference": seconds(reference),
        }


BENCHMARKS = {f.__name__: f for f in (lists, loader, resample, features, supernet_step, score_space)}


def main() -> None:
    """Run the named benchmarks and print a line for each."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*BENCHMARKS, "all"])
    parser.add_argument("--json", type=Path, help="write the results to this file as well")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for name in BENCHMARKS if options.name == "all" else [options.name]:
        result = {"name": name, **BENCHMARKS[name]()}
        result["ratio"] = result["reference"] / result["ours"]
        results.append(result)
        print(
            f"{name}: ours {result['ours']:.4g} {result['unit']}, reference {result['reference']:.4g} "
            f"{result['unit']}, "
            f"{result['ratio']:.2f} times better ({result['what']})",
            flush=True,
        )
        if "table" in result:
            print(pd.DataFrame(result["table"]).to_markdown(index=False, disable_numparse=True), flush=True)
    if options.json:
        machine = {"processor": platform.machine(), "threads": options.threads, "torch": torch.__version__}
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
