"""A released supernet of random weights, with scores and statistics."""

from pathlib import Path

import numpy as np
import torch
from small import SMALL, small_supernet

from audionas.models.files import save_model
from audionas.search.cnn10 import Cnn10Space
from audionas.search.tables import space_table
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.scores import fingerprint
from audionas.supernet.statistics import write_statistics

SETTINGS = {
    "audio": {"sample_rate": 32_000, "clip_seconds": 1.0, "min_seconds": 0.1},
    "features": {"n_fft": 1024, "hop": 800, "mels": 32, "fmin": 50.0, "fmax": 14_000.0},
}
FRAMES = 41
NAMES = ["bell", "dog | cat", "rain", "siren", "wind"]


def release(folder: Path, space: str = "x-x-x", seed: int = 0) -> Path:
    """Write supernet.pt, .csv, .npz and classes.csv to a folder, and return the path of the first."""
    path = folder / "supernet.pt"
    supernet = small_supernet()
    about = {"kind": "supernet", "space": space, "seed": seed, "corpus": "made", "train_clips": 24}
    about |= {"classes": [f"/m/{i}" for i in range(5)], "settings": SETTINGS, "iterations": 12}
    save_model(path, supernet, about)
    table = space_table(Cnn10Space(space, SMALL, FRAMES))
    chance = np.random.default_rng(seed)
    table["mAP"] = 0.3 + 0.1 * np.log(table.params / table.params.min()) + chance.normal(0, 0.03, len(table))
    table["mAP"] = table["mAP"].clip(0, 1).round(3)  # some are equal
    table["supernet"] = fingerprint(path)
    table.to_csv(path.with_suffix(".csv"), index=False)
    batches = [
        torch.randn(4, FRAMES, 32, generator=torch.Generator().manual_seed(i)) * 9 - 30 for i in (0, 1)
    ]
    statistics = calibrate_all(supernet, Cnn10Space(space, SMALL, FRAMES), batches)
    write_statistics(path.with_suffix(".npz"), statistics, fingerprint(path))
    rows = "".join(f"{i},/m/{i},{name}\n" for i, name in enumerate(NAMES))
    (folder / "classes.csv").write_text("index,mid,display_name\n" + rows)
    return path
