"""A tiny experiment: parameters and log-mel stores of synthetic spectrograms."""

from pathlib import Path

import numpy as np
import yaml

from audionas.data.store import write_store
from audionas.deploy.devices.table import write_measurements
from audionas.systems.once_for_all.config import Config
from audionas.systems.registry import load_config

CLASSES = ["low", "middle", "high", "rising"]

_CHANGED = {
    "corpus": {
        "name": "soundfont",
        "lists": "-",
        "audio": "-",
        "clips": {"train": 24, "valid": 12, "test": 12},
    },
    "audio": {"clip_seconds": 1.0},
    "features": {"hop": 1000, "mels": 16},
    "network": {"num_classes": 4, "base_channels": 4},
    "augment": {"time_mask_frames": 6, "mel_mask_bins": 2},
    "training": {"batch_size": 8, "threads": 1, "valid_every": 5, "checkpoint_seconds": 0.0},
    "teacher": {"iterations": 12},
    "supernet": {"largest_iterations": 4, "sampled_iterations": 8},
    "calibration": {"batches": 3},
    "search": {"tolerance": "2k"},
    "distillation": {},
    "finetune": {},
    "deploy": {"calibration_clips": 24, "device": "devices.csv"},
    "individual": {"iterations": 6},
    "study": {
        "spaces": ["2-2-x", "x-x-x"],
        "constraints": ["5k", "12k"],
        "sizes": ["0.6x1", "0.8x2"],
        "finetune_iterations": [3, 6],
        "draws": 50,
        "ranked": [0, 1, 2],
    },
}
PARAMS = Config.model_validate(_CHANGED).model_dump(
    mode="json", exclude={"system"}
)  # all other values as in the paper


def make(folder: Path, **changes: dict) -> Config:
    """Write params.yaml (PARAMS with changes) and data/logmel/*.h5, and return the configuration."""
    values = {name: {**section, **changes.get(name, {})} for name, section in PARAMS.items()}
    values |= {name: section for name, section in changes.items() if name not in values}
    (folder / "params.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    config = load_config(folder / "params.yaml")
    write_measurements(folder / "devices.csv", [])
    rng = np.random.default_rng(0)
    shape = (config.frames, config.features.mels)
    for split, count in values["corpus"]["clips"].items():
        rows = rng.normal(-60, 5, (count, *shape)).astype(np.float32)
        for i, row in enumerate(rows):
            band = np.arange(shape[0]) * 12 // shape[0] if i % 4 == 3 else np.full(shape[0], 5 * (i % 4))
            for width in range(3):
                row[np.arange(shape[0]), np.minimum(band + width, 15)] += 40
        write_store(
            folder / "data" / "logmel" / f"{split}.h5",
            [f"{split}{i}" for i in range(count)],
            np.eye(4, dtype=np.uint8)[np.arange(count) % 4],
            rows.astype(np.float16),
            classes=CLASSES,
            settings=config.feature_settings(),
        )
    segments = folder / "data" / "segments"
    segments.mkdir(parents=True, exist_ok=True)
    names = "".join(f"{i},{name},{name}\n" for i, name in enumerate(CLASSES))
    (segments / "classes.csv").write_text("index,mid,display_name\n" + names, encoding="utf-8")
    for split, count in values["corpus"]["clips"].items():
        rows = "".join(f"{split}{i},{split}{i}\n" for i in range(count))
        (segments / f"{split}.csv").write_text("clip_id,source\n" + rows, encoding="utf-8")
    return config
