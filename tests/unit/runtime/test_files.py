"""Atomic writes: they replace regular files only."""

import os

import pytest

from audionas.runtime.errors import UserError
from audionas.runtime.files import atomic_write


@pytest.mark.parametrize("linked", [False, True])
def test_a_pipe_is_not_replaced(tmp_path, linked):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if linked:
        (tmp_path / "link").symlink_to(path)
        path = tmp_path / "link"
    with pytest.raises(UserError, match="a pipe, where a file is to be written"), atomic_write(path):
        pass
    assert path.is_fifo() and not list(tmp_path.glob(".*"))
