"""Layers and peak memory, against the tensors of a real forward pass."""

import pytest
from memory import traced_peak

from audionas.models.cnn10 import Cnn10
from audionas.search.cnn10 import Cnn10Architecture, Cnn10Space
from audionas.search.costs.layers import DTYPES, Layer, peak_memory

PAPER, SMALL = Cnn10Architecture(), Cnn10Architecture(5, 8, 32, "nearest")


def built(space: Cnn10Space, configuration) -> Cnn10:
    a = space.architecture
    widths, depths = a.widths(configuration), (2, *configuration.depths)
    return Cnn10(a.num_classes, a.base_channels, widths=widths, depths=depths, mels=a.mels)


@pytest.mark.parametrize("architecture, frames", [(PAPER, 1001), (SMALL, 45), (SMALL, 16)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_peak_memory_is_that_of_the_tensors_of_a_forward_pass(architecture, frames, dtype):
    space = Cnn10Space("x-x-x", architecture, frames)
    for configuration in [space.smallest, space.largest, *space[5::83]]:
        expected = traced_peak(built(space, configuration), frames, architecture.mels, DTYPES[dtype])
        assert peak_memory(space.layers(configuration), dtype) == expected, configuration


@pytest.mark.parametrize("frames", [1001, 33])
def test_layers_have_all_multiply_adds_and_weights(frames):
    space = Cnn10Space("x-x-x", frames=frames)
    for configuration in space[::31]:
        layers, network = space.layers(configuration), built(space, configuration)
        assert sum(layer.macs for layer in layers) == space.costs(configuration).macs
        weights = sum(p.numel() for p in network.parameters() if p.ndim > 1)
        assert sum(layer.weights for layer in layers) == weights


def test_a_shortcut_is_held_in_memory():
    layers = [Layer("a", 10, 40, weights=5), Layer("b", 40, 30, held=20, biases=3), Layer("c", 30, 0)]
    assert peak_memory(layers) == 4 * (90 + 5 + 3)
    assert peak_memory(layers, "int8") == 90 + 5 + 4 * 3
    assert [layer.block for layer in layers] == ["a", "b", "c"] and Layer("x.y", 1, 1).block == "x"


def test_a_text_identifies_a_network_and_its_input():
    spaces = [
        Cnn10Space(*arguments)
        for arguments in (("x-x-x",), ("x-x-x", None, 33), ("x-x-x", SMALL), ("x-x-x", SMALL, 33))
    ]
    texts = [space.text(configuration) for space in spaces for configuration in space]
    assert len(set(texts)) == 4 * 512
    assert Cnn10Space("2-2-x").text(spaces[0].largest) == spaces[0].text(spaces[0].largest)
    assert texts[0] == (
        "network=cnn10 classes=527 channels=64 rounding=floor mels=64 frames=1001 "
        "r2=0.4 r3=0.4 r4=0.4 d2=1 d3=1 d4=1"
    )
