"""Environment variables, set by schedulers or with wrong values."""

import pytest
import tiny

from audionas.cli import main
from audionas.runtime.environment import world_size
from audionas.runtime.parallel import workers

LAUNCHED = {"RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("WORLD_SIZE", *LAUNCHED):
        monkeypatch.delenv(name, raising=False)
    tiny.make(tmp_path)


@pytest.mark.parametrize("arguments", [["check"], ["tables"], ["teacher", "--seed", "0"]])
def test_a_world_size_without_a_rank_is_named(arguments, monkeypatch, capsys):
    """Some schedulers set it, or a shell after a use of `torchrun`."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert "WORLD_SIZE is 2" in said and "RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT" in said
    assert "unset WORLD_SIZE" in said


@pytest.mark.parametrize(
    "name, value",
    [
        *(("WORLD_SIZE", bad) for bad in ("x", "0", "-1", "1.5", "٢", "9" * 99)),
        *(("RANK", bad) for bad in ("x", "2", "-1")),
        ("LOCAL_RANK", "2"),
        ("MASTER_PORT", "http"),
    ],
)
def test_values_that_are_none_are_named(name, value, monkeypatch, capsys):
    for key, good in {"WORLD_SIZE": "2", **LAUNCHED, name: value}.items():
        monkeypatch.setenv(key, good)
    assert main(["teacher", "--seed", "0"]) == 1
    assert capsys.readouterr().err.startswith(f"audionas teacher: {name}: ")


def test_one_process_needs_no_launcher(monkeypatch):
    for one in ("1", " 1 ", ""):
        monkeypatch.setenv("WORLD_SIZE", one)
        assert world_size() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    for key, value in LAUNCHED.items():
        monkeypatch.setenv(key, value)
    assert world_size() == 4


@pytest.mark.parametrize("value", ["0", "-2", "two", "1e3", "99999"])
def test_a_number_of_workers_that_is_none_is_refused(value, monkeypatch):
    from audionas.runtime.errors import UserError

    monkeypatch.setenv("AUDIONAS_WORKERS", value)
    with pytest.raises(UserError, match=r"AUDIONAS_WORKERS: .*unset AUDIONAS_WORKERS"):
        workers()


@pytest.mark.slow
@pytest.mark.parametrize("value", ["soon", "nan", "-1"])
def test_a_time_limit_that_is_none_is_refused(value, monkeypatch, capsys):
    monkeypatch.setenv("AUDIONAS_TIME_LIMIT", value)
    assert main(["teacher", "--seed", "0"]) == 1
    assert "AUDIONAS_TIME_LIMIT: " in capsys.readouterr().err
