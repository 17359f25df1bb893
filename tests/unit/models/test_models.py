"""CNN10, its layers, its calibration and model files."""

from dataclasses import asdict

import pytest
import torch
from small import SMALL, small_batch, small_supernet
from torch import nn

from audionas.models import Cnn10
from audionas.models.calibration import calibrate
from audionas.models.files import load_model, load_supernet, read_model, save_model
from audionas.models.layers.convolution import conv3x3, in_fastest_layout
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import Cnn10Space
from audionas.supernet.cnn10 import Cnn10Supernet, extract


@pytest.fixture
def supernet():
    return small_supernet()


@pytest.fixture
def x():
    return small_batch()


def test_cnn10_has_the_papers_parameters():
    assert sum(p.numel() for p in Cnn10(527).parameters()) == 5_219_279


def test_cnn10_is_initialised_as_panns_do():
    network = Cnn10(7, 8)
    weight = network.block2.conv1.weight.detach()
    bound = (6 / (9 * (8 + 16))) ** 0.5
    assert weight.abs().max() <= bound and weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not network.fc1.bias.any() and (network.bn0.weight == 1).all() and not network.bn0.bias.any()


def test_calibration_is_the_average_over_batches(x):
    network = Cnn10(5, 8, mels=32)
    calibrate(network, [x, x + 4])
    mean = torch.cat([x, x + 4]).mean(dim=(0, 1))
    assert torch.allclose(network.bn0.running_mean, mean, atol=1e-4)
    assert not network.training


def test_model_files_come_back_equal_and_are_the_same_bytes(tmp_path, supernet, x):
    small = extract(supernet, Cnn10Space("2-2-x", SMALL)[5])
    for network, load, other in ((supernet, load_supernet, load_model), (small, load_model, load_supernet)):
        for name in ("a.pt", "b.pt"):
            save_model(tmp_path / name, network, {"kind": "test", "classes": list("abcde")})
        assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
        again, about = load(tmp_path / "a.pt")
        assert type(again) is type(network) and about["kind"] == "test"
        with torch.no_grad():
            assert torch.equal(again(x), network(x))
        with pytest.raises(UserError, match="supernet"):
            other(tmp_path / "a.pt")


@pytest.mark.parametrize("content", [b"", b"not a model", None])
def test_a_damaged_model_file_is_named(tmp_path, supernet, content):
    path = tmp_path / "model.pt"
    if content is None:  # truncated
        save_model(path, supernet, {})
        content = path.read_bytes()[:-100]
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"model\.pt: damaged"):
        load_model(path)


@pytest.mark.parametrize("channels, last", [(8, True), (12, False)])
def test_convolutions_of_all_blocks_run_in_one_layout(channels, last):
    seen = []

    def note(module, inputs, output):
        seen.append(output.is_contiguous(memory_format=torch.channels_last) and not output.is_contiguous())

    network = Cnn10(3, channels, mels=32)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module is not network.bn0:
            module.register_forward_hook(note)
    network(torch.randn(2, 32, 32), torch.ones(2, 32, 32))
    assert seen == [last] * 8


def test_gradients_of_a_wide_convolution_are_the_layers_own():
    torch.manual_seed(0)
    x = in_fastest_layout(torch.randn(2, 1, 12, 10), 64).expand(2, 64, 12, 10).clone().requires_grad_()
    weight = torch.randn(70, 64, 3, 3, requires_grad=True)
    results = []
    for convolution in (conv3x3, lambda *pair: nn.functional.conv2d(*pair, padding=1)):
        x.grad = weight.grad = None
        output = convolution(x, weight)
        output.square().mean().backward()
        results.append((output.detach(), x.grad, weight.grad))
    for ours, plain in zip(*results, strict=True):
        torch.testing.assert_close(ours, plain)


def test_files_of_format_1_are_read_as_what_they_were(tmp_path):
    """As they stand in caches and releases of version 0.1.0."""
    about, networks = {"kind": "test"}, (Cnn10(4, 4, mels=16), Cnn10Supernet(SMALL))
    for network, architecture in zip(networks, (None, asdict(SMALL)), strict=True):
        path, spec = tmp_path / "0.pt", getattr(network, "largest_spec", network.spec)
        content = {"format": 1, "spec": spec, "architecture": architecture, "about": about}
        torch.save({**content, "state": network.state_dict()}, path)
        read, told = (load_supernet if architecture else load_model)(path)
        assert told == about and type(read) is type(network) and read.spec == network.spec
        for name, value in network.state_dict().items():
            assert torch.equal(read.state_dict()[name], value)
        assert read_model(path)["model"] == network.name
