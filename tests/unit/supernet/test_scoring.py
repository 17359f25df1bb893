"""Scores of a whole space equal those of separate networks, and are checked on reading."""

from pathlib import Path

import limits
import pandas as pd
import pytest
import tiny
import torch
from sklearn.metrics import average_precision_score

from audionas.data.store import ClipStore
from audionas.evaluation.metrics import mean_average_precision
from audionas.evaluation.prediction import calibration_batches, predict
from audionas.models.calibration import calibrate
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.cnn10 import Cnn10Supernet, extract
from audionas.supernet.scores import read_scores
from audionas.supernet.scoring import predict_all, score_space


@pytest.fixture
def stores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tiny.make(tmp_path)
    return ClipStore("data/logmel/train.h5"), ClipStore("data/logmel/valid.h5")


def test_scores_that_the_disk_has_no_room_for_are_an_error_before_the_first(stores):
    train, valid = stores
    space = Cnn10Space("x-x-x", Cnn10Architecture(4, 4, 16))
    supernet = Cnn10Supernet(space.architecture)
    seen = []
    supernet.block1.register_forward_hook(lambda *_: seen.append(1))
    batches = calibration_batches(train, 8, 2)
    statistics = calibrate_all(supernet, space, batches)
    seen.clear()
    with limits.largest_file(10_000), pytest.raises(UserError, match="File too large; raise the limit"):
        predict_all(supernet, space, statistics, valid)
    assert not seen and not list(Path().glob(".*"))


@pytest.mark.parametrize("name", ["x-x-x", "ew"])
def test_shared_scores_equal_scoring_each_extracted_network_by_itself(stores, name):
    train, valid = stores
    torch.manual_seed(0)
    space = Cnn10Space(name, Cnn10Architecture(4, 4, 16))
    supernet = Cnn10Supernet(space.architecture)
    batches = calibration_batches(train, 8, 2)
    table, _ = score_space(supernet, space, batches, valid, batch_size=5)
    assert list(table.columns[:8]) == ["r2", "r3", "r4", "d2", "d3", "d4", "params", "macs"]
    assert len(table) == len(space) and table.mAP.nunique() > 10
    for i in range(0, len(space), 37):
        network = extract(supernet, space[i])
        calibrate(network, batches)
        alone = predict(network, valid)
        assert table.mAP[i] == pytest.approx(mean_average_precision(valid.labels, alone), abs=1e-9)
        assert table.mAP[i] == pytest.approx(average_precision_score(valid.labels, alone), abs=1e-9)


def test_scores_of_another_space_or_damaged_are_refused(stores, tmp_path):
    space = Cnn10Space("2-2-x", Cnn10Architecture(4, 4, 16), frames=33)
    path = Path("scores.csv")
    with pytest.raises(UserError, match=r"scores.csv: no such file"):
        read_scores(path, space)
    train, valid = stores
    supernet = Cnn10Supernet(space.architecture)
    score_space(supernet, space, calibration_batches(train, 8, 1), valid)[0].to_csv(path, index=False)
    assert len(read_scores(path, space)) == 128
    other = Path("other.pt")
    other.write_bytes(b"another")
    with pytest.raises(UserError, match=r"scores.csv: the scores do not belong to other.pt; give"):
        read_scores(path, space, other)
    with pytest.raises(UserError, match="not the sub-networks of space"):
        read_scores(path, Cnn10Space("2-2-x"))
    table = pd.read_csv(path)
    for wrong in (1.01, -0.01, float("nan")):
        table.assign(mAP=table.mAP.where(table.index != 5, wrong)).to_csv("wrong.csv", index=False)
        with pytest.raises(UserError, match=r"wrong.csv: some scores are not between 0 and 1; give"):
            read_scores(Path("wrong.csv"), space)
    table.head(60).to_csv(path, index=False)
    with pytest.raises(UserError, match="not the sub-networks"):
        read_scores(path, space)
