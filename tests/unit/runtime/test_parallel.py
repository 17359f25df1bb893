"""Parallel maps over processes and threads: order, limited prefetch, and detection of dead workers."""

import os
import signal
from functools import partial
from pathlib import Path

import pytest

from audionas.runtime.errors import UserError
from audionas.runtime.parallel import ordered_map, threaded_map


def _lost(item):
    return f"lost {item}"


in_processes = partial(ordered_map, lost=_lost)


def test_results_come_in_order_and_errors_come_through():
    for mapped in (in_processes, threaded_map):
        assert list(mapped(abs, range(-20, 0))) == list(range(20, 0, -1))
        with pytest.raises(TypeError):
            list(mapped(len, [[1], 2, [3]]))


@pytest.mark.parametrize("mapped", [in_processes, threaded_map])
def test_few_items_are_taken_ahead(mapped, monkeypatch):
    monkeypatch.setenv("AUDIONAS_WORKERS", "1")
    taken = []

    def items():
        for i in range(50):
            taken.append(i)
            yield i

    results = mapped(abs, items())
    next(results)
    assert len(taken) <= 5
    results.close()


def test_work_is_done_in_other_processes():
    assert os.getpid() not in set(in_processes(_pid, range(3)))


def _pid(_):
    return os.getpid()


def _kill(item, killers, sign, folder):
    if item in killers:
        os.kill(os.getpid(), sign)
    if item in folder and not Path(folder[item]).exists():  # only once, as after a temporary lack of memory
        Path(folder[item]).touch()
        os.kill(os.getpid(), sign)
    return item


@pytest.mark.slow
@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSEGV])
@pytest.mark.parametrize("killers", [{0}, {5}, {19}, {3, 4, 11}])
def test_the_item_that_kills_its_worker_is_found_and_the_others_are_done(sign, killers, monkeypatch):
    monkeypatch.setenv("AUDIONAS_WORKERS", "2")
    work = partial(_kill, killers=killers, sign=sign, folder={})
    expected = [f"lost {i}" if i in killers else i for i in range(20)]
    assert list(in_processes(work, range(20))) == expected


def test_an_item_whose_worker_is_killed_once_is_done_again(tmp_path, monkeypatch):
    monkeypatch.setenv("AUDIONAS_WORKERS", "2")
    work = partial(_kill, killers=(), sign=signal.SIGKILL, folder={7: str(tmp_path / "killed")})
    assert list(in_processes(work, range(12))) == list(range(12))


def test_where_every_worker_is_killed_it_stops_and_says_what_may_help(monkeypatch):
    monkeypatch.setenv("AUDIONAS_WORKERS", "2")
    work = partial(_kill, killers=range(100), sign=signal.SIGKILL, folder={})
    results = in_processes(work, range(100))
    with pytest.raises(UserError, match="AUDIONAS_WORKERS to a lower number than 2"):
        list(results)
