"""`audionas measure`: rows of networks that really ran, resumed, and refused for another machine."""

import logging
from pathlib import Path

import pytest
from releases import FRAMES, release
from small import SMALL

from audionas.cli import main
from audionas.deploy import measure as module
from audionas.deploy.devices.table import file_text, read_device, read_measurements, write_measurements
from audionas.models.cnn10 import Cnn10
from audionas.models.files import save_model
from audionas.search.cnn10 import Cnn10Space
from audionas.settings.audio import Audio, Features
from audionas.systems.once_for_all.exported import _latencies

pytest.importorskip("onnxruntime", reason="the extra deploy is not installed")
onnx = pytest.importorskip("onnx", reason="the extra deploy is not installed")


@pytest.fixture(scope="module")
def released(tmp_path_factory) -> Path:
    return release(tmp_path_factory.mktemp("release"), "2-2-x")


@pytest.fixture(autouse=True)
def inside(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "_busy", lambda: 0.0)


@pytest.fixture
def exported(monkeypatch) -> list:
    """A list of the networks that are exported. The exporter takes seconds, so a small graph runs instead."""
    networks = []
    monkeypatch.setattr(module, "_onnx", lambda network, *_: networks.append(network) or GRAPH)
    return networks


def graph() -> bytes:
    shape = ["batch", "frames", "mels"]
    x, y = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in "xy")
    made = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y])
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(made, opset_imports=opset, ir_version=10).SerializeToString()


GRAPH = graph()


def measure(released: Path, networks: int, *more: str) -> int:
    arguments = ["--device", "here.csv", "--networks", str(networks), "--repeats", "6", *more]
    return main(["measure", str(released), *arguments])


def test_networks_are_measured_once_and_a_run_goes_on_where_it_ended(released, exported, capsys):
    assert measure(released, 3) == 0
    assert "here.csv: 3 networks, " in capsys.readouterr().out
    rows = read_device("here.csv")
    space = Cnn10Space("2-2-x", SMALL, FRAMES)
    texts = {space.text(each) for each in space}
    assert len({row.architecture for row in rows} & texts) == 3
    assert [row.architecture for row in rows[:2]] == [space.text(space.smallest), space.text(space.largest)]
    assert all(row.latency_ms > 0 and row.repeats == 6 and row.energy_uJ is None for row in rows)
    assert rows[0].runtime.startswith("onnxruntime ") and rows[0].runtime.endswith(" float32")
    exported.clear()
    assert measure(released, 9) == 0
    assert len(exported) == 6 and read_device("here.csv")[:3] == rows and len(read_device("here.csv")) == 9
    before = Path("here.csv").read_bytes()
    assert measure(released, 9) == 0
    assert len(exported) == 6 and Path("here.csv").read_bytes() == before
    capsys.readouterr()
    limit = ["--latency", "10s", "--device", "here.csv", "--output", "n.pt"]
    assert main(["specialize", str(released), *limit]) == 0
    said = capsys.readouterr().out
    assert "predicted from 9 measured networks; error on left-out networks" in said


@pytest.mark.slow
@pytest.mark.parametrize("dtype, kind", [("float32", "FLOAT"), ("int8", "INT8")])
def test_the_networks_that_run_are_those_of_the_rows(released, dtype, kind, monkeypatch):
    contents, inputs = [], []
    real, session = module._onnx, module._session
    monkeypatch.setattr(module, "_onnx", lambda *given: contents.append(real(*given)) or contents[-1])
    monkeypatch.setattr(module, "_session", lambda content, x: inputs.append(x.shape) or session(content, x))
    assert measure(released, 1, "--seconds", "0.5", "--dtype", dtype) == 0
    space = Cnn10Space("2-2-x", SMALL, 21)
    known = {space.text(each): each for each in space}
    assert set(inputs) == {(1, 21, 32)}
    rows = read_device("here.csv")
    assert all(row.runtime.endswith(f" {dtype}") for row in rows)
    for row, content in zip(rows, contents, strict=True):
        stored = onnx.load_from_string(content).graph.initializer
        convolutions = [each for each in stored if len(each.dims) == 4]
        assert {each.data_type for each in convolutions} >= {getattr(onnx.TensorProto, kind)}
        weights = sum(onnx.numpy_helper.to_array(each).size for each in convolutions)
        layers = space.layers(known[row.architecture])
        assert weights == sum(layer.weights for layer in layers if "conv" in layer.name)


def test_a_file_of_another_machine_is_refused_and_stays(released, exported, capsys):
    assert measure(released, 2) == 0
    for field in ("device", "clock", "runtime"):
        rows = [row._replace(**{field: "another"}) for row in read_measurements("here.csv").values()]
        write_measurements("other.csv", rows)
        before = Path("other.csv").read_bytes()
        assert main(["measure", str(released), "--device", "other.csv"]) == 1
        assert f"other.csv, line 2: {field} 'another', and this machine has" in capsys.readouterr().err
        assert Path("other.csv").read_bytes() == before


def test_a_busy_machine_is_reported(released, exported, monkeypatch, caplog):
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


@pytest.mark.slow
def test_whole_networks_are_measured_in_both_types_and_the_table_finds_them():
    settings = {
        "audio": Audio(clip_seconds=1.0).model_dump(),
        "features": Features(hop=1000, mels=16).model_dump(),
    }
    network = Cnn10(4, 4, mels=16)
    save_model("net.pt", network, {"classes": list("abcd"), "settings": settings})
    for dtype in ("float32", "int8"):
        assert main(["measure", "net.pt", "--device", "here.csv", "--repeats", "6", "--dtype", dtype]) == 0
    before = Path("here.csv").read_bytes()
    assert main(["measure", "net.pt", "--device", "here.csv", "--repeats", "6"]) == 0
    assert Path("here.csv").read_bytes() == before  # both are there
    rows = list(read_measurements("here.csv").values())
    assert {row.architecture for row in rows} == {file_text("cnn10", network.spec, settings)}
    assert [row.runtime.rpartition(" ")[2] for row in rows] == ["float32", "int8"]
    latencies = _latencies("here.csv")
    assert latencies[rows[1].architecture, "int8"] == rows[1].latency_ms > 0
