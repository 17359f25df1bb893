"""CNN10, the dynamic layers, the supernet and the extraction of sub-networks."""

import csv
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from audionas.models import Cnn10
from audionas.models.calibration import calibrate
from audionas.models.files import load_model, load_supernet, read_model, save_model
from audionas.models.layers.convolution import conv3x3, in_fastest_layout
from audionas.models.layers.normalisation import BatchNorm2d
from audionas.runtime.errors import UserError
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space
from audionas.supernet.cnn10 import Cnn10Supernet, calibrate_all, extract
from audionas.systems.once_for_all.costs import multiply_adds

SMALL = Cnn10Architecture(num_classes=5, base_channels=8, mels=32)


def randomise(network: nn.Module) -> None:
    """Norm layers as no training leaves them, so that a wrong slice shows."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)


@pytest.fixture
def supernet():
    torch.manual_seed(0)
    network = Cnn10Supernet(SMALL)
    randomise(network)
    return network.eval()


@pytest.fixture
def x():
    return torch.randn(3, 40, 32, generator=torch.Generator().manual_seed(1)) * 10 - 30


def test_cnn10_has_the_papers_parameters():
    assert sum(p.numel() for p in Cnn10(527).parameters()) == 5_219_279


def test_cnn10_is_initialised_as_panns_do():
    network = Cnn10(7, 8)
    weight = network.block2.conv1.weight.detach()
    bound = (6 / (9 * (8 + 16))) ** 0.5
    assert weight.abs().max() <= bound and weight.std() == pytest.approx(bound / 3**0.5, rel=0.1)
    assert not network.fc1.bias.any() and (network.bn0.weight == 1).all() and not network.bn0.bias.any()


def test_every_size_equals_the_table():
    with Path(__file__).with_name("search_space_params.csv").open() as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    ours = [
        (
            space,
            *(f"{r}" for r in s.ratios),
            *(f"{d}" for d in s.depths),
            f"{Cnn10Space(space).parameters(s)}",
        )
        for space in ("x-x-x", "2-x-x", "2-2-x", "ew")
        for s in Cnn10Space(space)
    ]
    assert sorted(ours) == sorted(rows)


@pytest.mark.parametrize("name, count", [("x-x-x", 512), ("2-x-x", 256), ("2-2-x", 128), ("ew", 125)])
def test_spaces_have_the_papers_configurations(name, count):
    space = Cnn10Space(name)
    assert len(space) == len(set(space)) == count
    assert max(map(space.parameters, space)) == 5_219_279


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(list(Cnn10Space("x-x-x"))), st.integers(4, 12), st.sampled_from(["floor", "nearest"]))
def test_counted_costs_equal_the_analytic_ones(subnetwork, base, rounding):
    architecture = Cnn10Architecture(5, base, 32, rounding)
    network = extract(Cnn10Supernet(architecture), subnetwork).eval()
    assert sum(p.numel() for p in network.parameters()) == architecture.parameters(subnetwork)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(torch.zeros(1, 50, 32))
    assert counter.get_total_flops() == 2 * architecture.multiply_adds(subnetwork, 50)


@pytest.mark.parametrize("name", ["x-x-x", "2-2-x", "ew"])
@torch.no_grad()
def test_a_space_is_scored_with_as_many_multiply_adds_as_are_counted(supernet, x, name):
    space = Cnn10Space(name, SMALL)
    statistics = calibrate_all(supernet, list(space), [x])
    with FlopCounterMode(display=False) as counter:
        assert sum(1 for _ in supernet.outputs(x[:1], space, statistics=statistics)) == len(space)
    assert counter.get_total_flops() == 2 * multiply_adds(SMALL, space, x.shape[1], widening=True)


@torch.no_grad()
def test_a_convolution_that_widens_puts_out_what_each_width_does_alone(supernet, x):
    layer = supernet.block3.conv2.double()
    y = torch.randn(2, 32, 9, 7, generator=torch.Generator().manual_seed(2)).double()
    widths = [1, 12, 13, 32]
    for width, z in zip(widths, layer.widening(y, widths), strict=True):
        assert (z - layer(y[:, :width], width)).abs().max() < 1e-12


def test_cnn10_multiply_adds_are_the_papers():
    assert Cnn10Architecture().multiply_adds(LARGEST, 1001) / 1e9 == pytest.approx(13.02, abs=0.005)


def test_a_supernets_state_is_a_cnn10s(supernet):
    plain = Cnn10(5, 8, mels=32)
    assert list(plain.state_dict()) == list(supernet.state_dict())
    plain.load_state_dict(supernet.state_dict())


@pytest.mark.parametrize("name", ["x-x-x", "2-2-x", "ew"])
@torch.no_grad()
def test_every_subnetwork_equals_the_extracted_network(supernet, x, name):
    space = Cnn10Space(name, SMALL)
    seen = []
    for subnetwork, logits in supernet.outputs(x, space):
        network = extract(supernet, subnetwork)
        assert (network(x) - logits).abs().max() < 1e-5
        assert type(network) is Cnn10 and {type(m) for m in network.modules()} <= {
            Cnn10, nn.Conv2d, BatchNorm2d, nn.Linear, type(network.block1)
        }  # fmt: skip
        seen.append(subnetwork)
    assert sorted(seen) == sorted(space)


@torch.no_grad()
def test_a_subnetwork_given_twice_comes_twice(supernet, x):
    outputs = list(supernet.outputs(x, [LARGEST, LARGEST]))
    assert len(outputs) == 2 and torch.equal(outputs[0][1], outputs[1][1])
    assert torch.equal(outputs[0][1], supernet(x))


def test_shared_prefixes_give_the_gradients_of_separate_passes(x):
    torch.manual_seed(0)
    network = Cnn10Supernet(SMALL, block_dropout=0.0, head_dropout=0.0).double()
    chosen = [Cnn10Space("x-x-x", SMALL).subnetworks[i] for i in (3, 70, 300, 511, 3)]
    x = x.double()

    def gradients(losses):
        network.zero_grad()
        for loss in losses:
            loss.backward()
        return [p.grad.clone() for p in network.parameters() if p.grad is not None]

    shared = gradients([sum(z.square().mean() for _, z in network.outputs(x, chosen))])
    separate = gradients(z.square().mean() for s in chosen for _, z in network.outputs(x, [s]))
    assert all((a - b).abs().max() < 1e-9 for a, b in zip(shared, separate, strict=True))


@torch.no_grad()
def test_shared_calibration_equals_calibrating_each_extracted_network(supernet, x):
    space = Cnn10Space("x-x-x", SMALL)
    batches = [x + i for i in range(3)]
    before = {name: value.clone() for name, value in supernet.state_dict().items()}
    statistics = calibrate_all(supernet, list(space), batches)
    assert all(torch.equal(before[name], value) for name, value in supernet.state_dict().items())
    for subnetwork, logits in supernet.outputs(x, list(space)[::17], statistics=statistics):
        alone = extract(supernet, subnetwork)
        calibrate(alone, batches)
        together = extract(supernet, subnetwork, statistics)
        assert (alone(x) - logits).abs().max() < 1e-5
        for (name, a), b in zip(alone.state_dict().items(), together.state_dict().values(), strict=True):
            assert torch.allclose(a.double(), b.double(), atol=1e-5), name


def test_calibration_is_the_average_over_batches(x):
    network = Cnn10(5, 8, mels=32)
    calibrate(network, [x, x + 4])
    mean = torch.cat([x, x + 4]).mean(dim=(0, 1))
    assert torch.allclose(network.bn0.running_mean, mean, atol=1e-4)
    assert not network.training


def test_model_files_come_back_equal_and_are_the_same_bytes(tmp_path, supernet, x):
    small = extract(supernet, Cnn10Space("2-2-x", SMALL).subnetworks[5])
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
        path, spec = tmp_path / "0.pt", getattr(network, "largest", network.spec)
        content = {"format": 1, "spec": spec, "architecture": architecture, "about": about}
        torch.save({**content, "state": network.state_dict()}, path)
        read, told = (load_supernet if architecture else load_model)(path)
        assert told == about and type(read) is type(network) and read.spec == network.spec
        for name, value in network.state_dict().items():
            assert torch.equal(read.state_dict()[name], value)
        assert read_model(path)["model"] == network.name
