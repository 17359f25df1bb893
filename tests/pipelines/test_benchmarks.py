"""References equal the package, counts are correct, and each benchmark reports its floor."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from audionas.search.cnn10 import LARGEST, Cnn10Architecture, Cnn10Space

pytest.importorskip("torchlibrosa", reason="the references of benchmarks need torchlibrosa")
from audionas.systems.once_for_all.costs import multiply_adds
from benchmarks import (
    __main__,
    checkpoints,
    panns,
    paper,
    precision,
    ranks,
    reading,
    scaling,
    scoring,
    training,
)
from benchmarks.operations import step_operations
from benchmarks.steps import OnceForAllSteps, made

ROOT = Path(__file__).parents[2]
TINY = (
    (training.train_step, {"sizes": ((4, 2),), "frames": 64}),
    (training.supernet_step, {"sizes": ((5, 2),), "frames": 64, "draws": 1}),
    (training.loop, {"width": 4, "clips": 2, "frames": 64, "steps": 2}),
    (reading.loader, {"clips": 4, "stored": 8, "frames": 101}),
    (scoring.score_space, {"cases": (("2-2-x", 5, 2),), "frames": 64}),
    (scaling.scaling, {"clips": (2,), "widths": (4,), "counts": (1, 2), "frames": 64}),
    (paper.paper, {"width": 4, "clips": 2, "frames": 64}),
    (precision.precision, {"width": 4, "clips": 2, "frames": 64, "ways": precision.WAYS[:2]}),
    (ranks.ranks, {"width": 4, "clips": 4, "frames": 64}),
    (checkpoints.resume, {"width": 4, "classes": 5}),
)


@pytest.mark.parametrize(("benchmark", "size"), TINY, ids=lambda x: getattr(x, "__name__", ""))
def test_a_benchmark_gives_ours_reference_and_a_floor(benchmark, size, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = benchmark(**size)
    assert result["ours"] > 0 and result["reference"] > 0
    if benchmark is not precision.precision:
        assert result["floor"] > 0
        assert (
            result["floor"] < result["ours"] or benchmark is checkpoints.resume
        )  # disk caches may beat the floor
    assert result["unit"] in "sh" and result["what"] and result["counted"]


def test_front_ends_of_the_export_are_equal_and_measured():
    pytest.importorskip("onnxruntime", reason="exported networks need onnxruntime")
    import numpy as np

    from benchmarks import export

    noise = np.random.default_rng(0).normal(0, 0.1, (1, 32_000)).astype(np.float32)
    taken = export.front_end_times(export.paper_front_end(), noise)  # raises if one differs
    assert set(taken) == {"PyTorch", "ours", "STFT"} and min(taken.values()) > 0


def test_panns_network_computes_the_packages_outputs():
    torch.manual_seed(0)
    network = panns.Network(7, 8).eval()
    x, _ = made(3, 64, 7)
    torch.testing.assert_close(network(x), torch.sigmoid(network.layers(x)))


def test_panns_features_are_the_packages():
    from audionas.audio import LogMel

    waves = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0)) / 10
    torch.testing.assert_close(panns.Frontend()(waves)[:, 0], LogMel()(waves), atol=1e-2, rtol=1e-4)


def test_mixing_pairs_even_and_odd_rows():
    x, shares = torch.arange(8.0).view(4, 2), torch.tensor([0.25, 0.75, 1.0, 0.0])
    assert panns.mix(x, shares).tolist() == [[1.5, 2.5], [4.0, 5.0]]


def test_shared_and_separate_supernet_steps_have_the_same_gradients():
    architecture, (x, y) = Cnn10Architecture(5, 5), made(2, 64, 5)
    draw = Cnn10Space("2-2-x", architecture)[3:100:32]
    gradients = []
    for name in ("shared", "separate"):
        steps = OnceForAllSteps(architecture, [draw], x, y)
        steps.supernet.block_dropout = steps.supernet.head_dropout = 0.0
        torch.manual_seed(1)  # seed of SpecAugment
        getattr(steps, name)()
        gradients.append([parameter.grad for parameter in steps.supernet.parameters()])
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=1e-3)


def test_work_of_a_tree_counts_what_is_shared_once():
    architecture = Cnn10Architecture()
    space = Cnn10Space("2-2-x", architecture)
    assert multiply_adds(architecture, [LARGEST], 1001) == architecture.multiply_adds(LARGEST, 1001)
    assert multiply_adds(architecture, [LARGEST] * 3, 1001) == architecture.multiply_adds(LARGEST, 1001)
    # It would be 158.6 G if the first convolution of a block ran once per width.
    assert round(multiply_adds(architecture, space, 1001) / 1e9, 1) == 126.9
    assert round(multiply_adds(architecture, space, 1001, widening=True) / 1e9, 1) == 69.7
    assert step_operations(architecture, [LARGEST], 1001, 2) == 12 * architecture.multiply_adds(LARGEST, 1001)


def test_scoring_all_of_the_chosen_space_is_less_than_half_the_work_of_the_papers_search():
    architecture = Cnn10Architecture()
    space = Cnn10Space("2-2-x", architecture)
    alone = [architecture.multiply_adds(subnetwork, 1001) for subnetwork in space]
    searched = scoring.DRAWN * sum(alone) / len(alone)
    assert multiply_adds(architecture, space, 1001, widening=True) < searched / 2


def test_a_results_file_keeps_the_results_of_other_names(tmp_path):
    path = tmp_path / "machine.json"
    __main__.write(path, [{"name": "loop", "ours": 1}])
    __main__.write(path, [{"name": "loader", "ours": 2}, {"name": "loop", "ours": 3}])
    content = json.loads(path.read_text())
    assert [(r["name"], r["ours"]) for r in content["results"]] == [("loader", 2), ("loop", 3)]
    assert {"processor", "cores", "threads", "torch"} <= content["machine"].keys()


def test_an_unknown_name_lists_the_known_ones():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nonsense"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2 and "train_step" in done.stderr
