"""Device selection: an unusable GPU is an error, and the message gives the fix."""

import sys

import pytest

from audionas.runtime import device
from audionas.runtime.errors import UserError
from audionas.settings.training import Training


@pytest.mark.skipif(sys.platform != "linux", reason="only on Linux does PyTorch require packages for a GPU")
def test_a_gpu_needs_the_packages_that_a_set_up_for_the_cpu_leaves_out(monkeypatch):
    settings = Training(device="cuda", threads=1)
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="this machine has no GPU; set it to cpu"):
        device.prepare(settings, 0)
    monkeypatch.setattr(device.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(device, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="set up for the CPU only; run `make install GPU=1`"):
        device.prepare(settings, 0)
