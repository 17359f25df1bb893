"""Stage `export-budget@constraint`: the network to release for a budget, in every format."""

from __future__ import annotations

from pathlib import Path

from audionas.audio.measure import spread
from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, RESAMPLE, iter_ledger, read_rows
from audionas.data.store import ClipStore
from audionas.deploy.onnx_files import network_graph
from audionas.deploy.targets import onnx
from audionas.evaluation.prediction import calibration_batches, predict
from audionas.evaluation.thresholds import f1_thresholds, precision_thresholds
from audionas.models.files import save_model
from audionas.runtime.device import prepare
from audionas.runtime.files import new_folder, sha256
from audionas.settings.deploy import Deploy
from audionas.systems.common.loading import load_for, open_logmel
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.exported import released_network
from audionas.tasks import MultiLabel


def run(config: Config, constraint: str) -> None:
    """Write models/exported/{constraint}: the network that the table `ship` names, in every format.

    The model file also gets the names of the classes, the detection thresholds, chosen on validation, and
    the range of the training clips. The ranges of the int8 file come from training clips.

    Raises:
        UserError: a table, a result or a model is missing or damaged, or the network exceeds its budget.
    """
    prepare(config.training, seed=0)
    train, valid = open_logmel(config, "train"), open_logmel(config, "valid")
    model = Path(released_network(config, constraint).File)
    network, about = load_for(model, valid)
    names = {row["mid"]: row["display_name"] for row in read_rows(data_paths.CLASSES, CLASSES)}
    probabilities = predict(network, valid, config.training.batch_size, MultiLabel().activation)
    about |= {
        "names": [names.get(mid, mid) for mid in about["classes"]],
        "thresholds": _thresholds(config.deploy, valid, probabilities),
        "thresholds_by": config.deploy.thresholds_by,
    }
    ledger = data_paths.audio_ledger("train")
    if ledger.exists():  # otherwise the study started from spectrograms
        about |= {"heard": spread(iter_ledger(ledger, RESAMPLE))}
    (clips,) = calibration_batches(train, config.deploy.calibration_clips, count=1)
    with new_folder(paths.exported(constraint)) as folder:
        save_model(source := folder / f"{constraint}.pt", network, about)
        graph = network_graph(network, about, source)
        made = {"source_sha256": sha256(source), "graph": graph}
        onnx.export(network, about, folder / f"{constraint}.onnx", **made)
        int8 = folder / f"{constraint}.int8.onnx"
        # A loss is a warning: the study goes on, and the table of files shows the loss on test.
        options = {"quantized": True, "calibration": clips.numpy(), "labelled": valid, "required": False}
        onnx.export(network, about, int8, **options, **made)


def _thresholds(deploy: Deploy, valid: ClipStore, probabilities) -> list[float]:
    if deploy.thresholds == "f1":
        return f1_thresholds(valid.labels, probabilities).tolist()
    return precision_thresholds(valid.labels, probabilities, deploy.thresholds).tolist()
