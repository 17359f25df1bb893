"""Device files, the latency predictor, and the bundled estimates."""

import csv
from pathlib import Path

import numpy as np
import pytest
from dag import ROOT
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import LeaveOneOut, cross_val_predict
from small import SMALL

from audionas.deploy.devices.device import MeasuredDevice, open_device
from audionas.deploy.devices.estimates import estimates
from audionas.deploy.devices.predictor import FEWEST, Predictor
from audionas.deploy.devices.table import COLUMNS, Measurement, read_device, write_measurements
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Space

SPACE = Cnn10Space("x-x-x", SMALL, 41)
ROW = {
    "architecture": SPACE.text(SPACE[0]),
    "device": "board",
    "runtime": "tflite-micro",
    "clock": "80 MHz",
    "latency_ms": "12.5",
    "energy_uJ": "300",
    "repeats": "10",
    "meter": "scope",
}


def written(path: Path, *rows: dict, columns=COLUMNS) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def row(place: int = 0, **changes: object) -> dict:
    return {**ROW, "architecture": SPACE.text(SPACE[place]), **changes}


def test_a_file_is_read_as_it_was_written(tmp_path):
    rows = [
        Measurement(SPACE.text(SPACE[i]), "board", "x", "80 MHz", 1.5 + i, [None, 2.25][i % 2], 10, "scope")
        for i in range(9)
    ]
    write_measurements(tmp_path / "board.csv", rows)
    assert read_device(tmp_path / "board.csv") == rows
    assert (tmp_path / "board.csv").read_text().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize(
    "rows, said",
    [
        ([row(latency_ms="20ms")], r"line 2, column latency_ms: '20ms' is not a positive number; .* in ms"),
        ([row(), row(1, latency_ms="-1")], r"line 3, column latency_ms: '-1' is not a positive number"),
        ([row(latency_ms="nan")], "column latency_ms"),
        ([row(latency_ms="")], "column latency_ms: '' is not"),
        ([row(energy_uJ="0.3 mJ")], r"column energy_uJ: '0.3 mJ' is not a positive number; .* in uJ"),
        ([row(repeats="many")], "column repeats: 'many' is not a positive number"),
        ([row(clock="")], "column clock: empty; write it"),
        ([row(architecture=" ")], "column architecture: empty"),
        ([row(), row(1, clock="160 MHz")], "rows of 2 clocks .* in one file; use one file for each clock"),
        ([row(), row(1, device="other")], "rows of 2 devices"),
        ([row(), row(1, runtime="other")], "rows of 2 runtimes .*; choose one with --runtime"),
        ([row(), row(1), row()], "line 4: the network of line 2 again"),
    ],
)
def test_a_file_that_cannot_be_used_says_where_and_why(rows, said, tmp_path):
    with pytest.raises(UserError, match=rf"board\.csv.*{said}"):
        read_device(written(tmp_path / "board.csv", *rows))


@pytest.mark.parametrize("column", COLUMNS)
def test_a_missing_column_is_named(column, tmp_path):
    path = written(tmp_path / "board.csv", row(), columns=[name for name in COLUMNS if name != column])
    with pytest.raises(UserError, match=rf"board\.csv.*{column}"):
        read_device(path)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "binary.csv").write_bytes(b"\xff\x00PNG")
    for name in ("binary.csv", "", "none.csv"):
        with pytest.raises(UserError):
            read_device(tmp_path / name)


def test_a_runtime_selects_its_rows(tmp_path):
    path = written(tmp_path / "board.csv", row(), row(runtime="other", latency_ms="3"), row(1))
    assert [each.latency_ms for each in read_device(path, "tflite-micro")] == [12.5, 12.5]
    assert [each.latency_ms for each in read_device(path, "other")] == [3]
    with pytest.raises(UserError, match="no row of runtime 'third'; it has 'other', 'tflite-micro'"):
        read_device(path, "third")


MACS = np.array([SPACE.costs(each).macs for each in SPACE], float)


def blocks(name: str) -> np.ndarray:
    return np.array([sum(part.macs for part in SPACE.layers(each) if part.block == name) for each in SPACE])


def times(noise: float) -> np.ndarray:
    """Milliseconds on a device where a multiply-add of the last block costs five times as much."""
    chance = np.random.default_rng(3)
    truth = 0.2 + (blocks("block1") + blocks("block2") + blocks("block3") + 5 * blocks("block4")) / 1e6
    return truth * np.exp(chance.normal(0, noise, len(truth)))


PLACES = np.random.default_rng(0).permutation(len(SPACE))[:40]


def test_a_predictor_finds_the_cost_of_each_block_where_a_line_does_not():
    y = times(0.0)
    predictor = Predictor(SPACE, PLACES, y[PLACES], "x", 40)
    np.testing.assert_allclose(predictor.predict(), y, rtol=1e-6)
    assert predictor.held_out.worst < 1e-6 < 0.05 < predictor.line.mean


def test_the_held_out_error_is_that_on_networks_nobody_measured():
    y = times(0.03)
    predictor = Predictor(SPACE, PLACES, y[PLACES], "x", 40)
    others = np.setdiff1d(np.arange(len(SPACE)), PLACES)
    real = np.abs(predictor.predict()[others] / y[others] - 1).mean()
    assert predictor.held_out.mean == pytest.approx(real, rel=0.3)
    assert predictor.held_out.mean < 0.6 * predictor.line.mean


def test_the_straight_line_is_scikit_learns_with_one_row_left_out():
    y = times(0.05)[PLACES]
    predicted = cross_val_predict(
        LinearRegression(), MACS[PLACES, None], y, cv=LeaveOneOut(), params={"sample_weight": y**-2}
    )
    line = Predictor(SPACE, PLACES, y, "x", 40).line
    assert line.mean == pytest.approx(np.abs(predicted / y - 1).mean(), rel=1e-6)
    assert line.worst == pytest.approx(np.abs(predicted / y - 1).max(), rel=1e-6)


@pytest.mark.parametrize("count", [FEWEST, 12])
def test_few_rows_suffice_for_a_simple_device(count):
    y = 0.5 + MACS / 1e6
    predictor = Predictor(SPACE, PLACES[:count], y[PLACES[:count]], "x", count)
    np.testing.assert_allclose(predictor.predict(), y, rtol=1e-6)


def measured(rows: list[Measurement]) -> MeasuredDevice:
    return MeasuredDevice("board.csv", rows)


def rows_of(space: Cnn10Space, places, y) -> list[Measurement]:
    return [
        Measurement(space.text(space[i]), "board", "x", "80 MHz", float(y[i]), None, 9, "scope")
        for i in places
    ]


def test_measured_networks_keep_their_values_and_others_are_predicted():
    y = times(0.05)
    cost = measured(rows_of(SPACE, PLACES, y)).cost(SPACE, "latency_ms")
    np.testing.assert_array_equal(cost.values[PLACES], y[PLACES])
    assert [cost.basis[i] for i in PLACES] == ["measured"] * 40 and cost.basis.count("predicted") == 472
    assert "error on left-out networks" in cost.note and "straight line in multiply-adds" in cost.note


def test_rows_of_other_networks_are_not_used_and_counted():
    y, other = times(0.0), Cnn10Space("x-x-x", SMALL, 99)
    rows = rows_of(SPACE, PLACES[:20], y) + rows_of(other, range(5), 3 * y)
    assert measured(rows).cost(SPACE, "latency_ms").note.endswith("; 5 rows of other networks not used")
    with pytest.raises(
        UserError, match=r"5 measured networks of space x-x-x, and 20 of other networks; a pred"
    ):
        measured(rows).cost(other, "latency_ms")


def test_what_a_file_cannot_tell_is_refused():
    y = times(0.0)
    with pytest.raises(UserError, match=f"7 measured networks of space x-x-x; a prediction needs {FEWEST}"):
        measured(rows_of(SPACE, PLACES[:7], y)).cost(SPACE, "latency_ms")
    with pytest.raises(UserError, match="column energy_uJ is empty; measure the energy"):
        measured(rows_of(SPACE, PLACES, y)).cost(SPACE, "energy_uJ")
    with pytest.raises(UserError, match="0 measured networks"):
        measured([]).cost(SPACE, "latency_ms")
    mixed = y.copy()
    mixed[PLACES[3]] /= 1000  # seconds
    with pytest.raises(UserError, match=r"off by a factor of [\d,]+ from the other rows.*the same unit"):
        measured(rows_of(SPACE, PLACES, mixed)).cost(SPACE, "latency_ms")


def test_estimates_are_those_of_the_reference_table():
    with (ROOT / "src/audionas/deploy/devices/mlperf-tiny.csv").open() as file:
        rows = [
            row for row in csv.DictReader(file) if row["system"] == "NUCLEO_L4R5ZI" and row["round"] == "v1.2"
        ]
    kept = [row for row in rows if row["benchmark"] != "ad"]
    device = open_device("estimated-nucleo-l4r5zi-v1.2")
    energy, latency = (device.cost(SPACE, name) for name in ("energy_uJ", "latency_ms"))
    rates = [float(row["energy_uJ"]) / float(row["MMACs"]) / 1e6 for row in kept]
    np.testing.assert_allclose(energy.values, np.median(rates) * MACS)
    np.testing.assert_allclose(energy.low, min(rates) * MACS)
    np.testing.assert_allclose(energy.high, max(rates) * MACS)
    rates = [1e3 / float(row["inferences_per_s"]) / float(row["MMACs"]) / 1e6 for row in kept]
    np.testing.assert_allclose(latency.values, np.median(rates) * MACS)
    assert len(kept) == 3 and len(rows) == 4


def test_every_bundled_device_says_that_it_is_an_estimate(tmp_path, monkeypatch):
    names = [each.name for each in estimates()]
    assert len(names) == len(set(names)) == 30
    for each in estimates():
        device = open_device(each.name)
        assert each.name.startswith("estimated-") and "estimate from MLPerf Tiny" in device.title
        cost = device.cost(SPACE, "energy_uJ")
        assert set(cost.basis) == {"estimated"} and cost.note.startswith("estimated from")
        assert (cost.low <= cost.values).all() and (cost.values <= cost.high).all()
    boards = [e.rates["energy_uJ"][1] for e in estimates() if "l4r5zi" in e.name]
    assert max(boards) / min(boards) > 4  # the runtime and its version alone
    with pytest.raises(UserError, match="its submission states no latency; choose another"):
        open_device("estimated-nucleo-u385rg-q-v1.3").cost(SPACE, "latency_ms")
    with pytest.raises(UserError, match="a bundled estimate has one runtime"):
        open_device(names[0], "x")
    monkeypatch.chdir(tmp_path)
    written(Path(names[0]), *(row(i) for i in range(9)))
    assert "estimate" not in open_device(names[0]).title  # a file of the user comes first
