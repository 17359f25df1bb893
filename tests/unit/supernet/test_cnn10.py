"""The CNN10 supernet: shared passes and calibration equal those of the extracted sub-networks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import SMALL, small_batch, small_supernet
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from audionas.models import Cnn10
from audionas.models.calibration import calibrate
from audionas.models.layers.normalisation import BatchNorm2d
from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space
from audionas.supernet.calibration import calibrate_all
from audionas.supernet.cnn10 import Cnn10Supernet, extract
from audionas.systems.once_for_all.costs import multiply_adds


@pytest.fixture
def supernet():
    return small_supernet()


@pytest.fixture
def x():
    return small_batch()


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
    chosen = [Cnn10Space("x-x-x", SMALL)[i] for i in (3, 70, 300, 511, 3)]
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
