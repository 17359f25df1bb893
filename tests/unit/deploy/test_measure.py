"""`audionas measure`: rows of networks that really ran, resumed, and refused for another machine."""

import logging
from pathlib import Path

import pytest
from releases import FRAMES, release
from small import SMALL

pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
pytest.importorskip("onnx", reason="the extra deploy is not installed")

from audionas.cli import main
from audionas.deploy import measure as module
from audionas.deploy.devices.table import read_device, read_measurements, write_measurements
from audionas.search.cnn10 import Cnn10Space


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    return release(tmp_path_factory.mktemp("release"), "2-2-x")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_busy", lambda: 0.0)


def measure(released: Path, networks: int, *more: str) -> int:
    arguments = ["--device", "here.csv", "--networks", str(networks), "--repeats", "6", *more]
    return main(["measure", str(released), *arguments])


def test_networks_are_measured_once_and_a_run_goes_on_where_it_ended(released, capsys, monkeypatch):
    assert measure(released, 3) == 0
    assert "here.csv: 3 networks, " in capsys.readouterr().out
    rows = read_device("here.csv")
    space = Cnn10Space("2-2-x", SMALL, FRAMES)
    texts = {space.text(each) for each in space}
    assert len({row.architecture for row in rows} & texts) == 3
    assert [row.architecture for row in rows[:2]] == [space.text(space.smallest), space.text(space.largest)]
    assert all(row.latency_ms > 0 and row.repeats == 6 and row.energy_uJ is None for row in rows)
    assert rows[0].runtime.startswith("onnxruntime ") and rows[0].runtime.endswith(" float32")
    made = []
    real = module._onnx
    monkeypatch.setattr(module, "_onnx", lambda network, x: made.append(network) or real(network, x))
    assert measure(released, 9) == 0
    assert len(made) == 6 and read_device("here.csv")[:3] == rows and len(read_device("here.csv")) == 9
    before = Path("here.csv").read_bytes()
    assert measure(released, 9) == 0
    assert len(made) == 6 and Path("here.csv").read_bytes() == before
    capsys.readouterr()
    limit = ["--latency", "10s", "--device", "here.csv", "--output", "n.pt"]
    assert main(["specialize", str(released), *limit]) == 0
    said = capsys.readouterr().out
    assert "predicted from 9 measured networks; error on left-out networks" in said


def test_the_networks_that_run_are_those_of_the_rows(released, monkeypatch):
    import onnx

    contents = []
    real = module._onnx
    monkeypatch.setattr(module, "_onnx", lambda *given: contents.append(real(*given)) or contents[-1])
    assert measure(released, 4, "--seconds", "0.5") == 0
    space = Cnn10Space("2-2-x", SMALL, 21)
    known = {space.text(each): each for each in space}
    for row, content in zip(read_device("here.csv"), contents, strict=True):
        graph = onnx.load_from_string(content).graph
        assert [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim] == [1, 21, 32]
        weights = sum(
            onnx.numpy_helper.to_array(each).size for each in graph.initializer if len(each.dims) > 1
        )
        expected = sum(layer.weights for layer in space.layers(known[row.architecture]))
        assert weights == expected


def test_a_file_of_another_machine_is_refused_and_stays(released, capsys):
    assert measure(released, 2) == 0
    for field in ("device", "clock", "runtime"):
        rows = [row._replace(**{field: "another"}) for row in read_measurements("here.csv").values()]
        write_measurements("other.csv", rows)
        before = Path("other.csv").read_bytes()
        assert main(["measure", str(released), "--device", "other.csv"]) == 1
        assert f"other.csv, line 2: {field} 'another', and this machine has" in capsys.readouterr().err
        assert Path("other.csv").read_bytes() == before


def test_a_busy_machine_is_reported(released, monkeypatch, caplog):
    monkeypatch.setattr(module, "_busy", lambda: 1.5)
    monkeypatch.setattr(module, "_SPREAD", -1.0)
    with caplog.at_level(logging.INFO):
        assert measure(released, 2) == 0
    assert "this machine is busy: other processes use 1.5 cores" in caplog.text
    assert "the times of 2 of 2 networks spread by more than" in caplog.text


def test_a_missing_package_is_named_with_its_extra(released, monkeypatch, capsys):
    import audionas.runtime.extras as extras

    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert measure(released, 2) == 1
    assert (
        "the package onnxruntime is not installed; run pip install 'audionas[deploy]'"
        in capsys.readouterr().err
    )


def test_what_is_no_supernet_is_refused(capsys):
    assert main(["measure", "none.pt", "--device", "here.csv"]) == 1
    assert "none.pt: no such file" in capsys.readouterr().err and not list(Path().iterdir())
