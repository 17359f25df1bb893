"""Model cards (Mitchell et al., 2019) of released networks and supernets, from the results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from audionas.reporting.captions import STAND_IN, budget_text, gain_over_kd, measured_on
from audionas.reporting.markup import markdown
from audionas.reporting.model_card import Metric, front_matter
from audionas.reporting.table_files import markdown_table, shown

_TAGS = ("audio-event-classification", "once-for-all", "cnn10")
_HEAD = """\
# {title}

{what}

"""
_USE = """\
## Use

```python
from audionas.inference import Classifier

classify = Classifier("{file}")
for name, probability in zip(classify.names, classify("recording.wav")):
    print(name, probability)
```

The ONNX files are used in the same way; any other runtime gives them `waveform`, float32 [batch, samples]
at {rate:,} Hz in -1..1, and takes `probabilities` [batch, classes]. The call above uses the first
{seconds:g} s of a recording. `audionas classify {file} recording.wav --events` moves a window over a
recording of any length and lists the events. Supported formats are those of libsndfile, and M4A, AAC, WebM,
WMA and AMR, which ffmpeg decodes.

"""
_CUT = """\
## Use

A supernet is not a classifier. `audionas specialize` cuts a network for any budget from it in seconds,
without data: the scores and BatchNorm statistics of all sub-networks are beside it, in `supernet.csv` and
`supernet.npz`.

```
audionas specialize supernet.pt --params {params} --output mine.pt
```

"""
_FILES = """\
## Files

{table}

mAP × 100 {over}, in brackets the 95 % interval over test clips. Precision, recall and F1 × 100 are averaged
over classes, at the thresholds below. ONNX files run through ONNX Runtime. The int8 file has int8 weights
and activations; the front end and the last layers are float32. On x86 processors without VNNI, set the
session option `session.x64quantprecision` to `1`, or sums of int8 products saturate and accuracy falls;
audionas sets it.{latency}

"""
_LIMITS = """\
## Limits

The model was trained on {clips} clips and evaluated on other clips of the same corpus. Accuracy on other
microphones and in other rooms is unknown. The interval is over test clips; another seed may give a network
that is a few points better or worse. Do not use the model where a missed or false detection could harm
someone.{stand_in}

"""


def network_card(
    digest: str,
    shipped: pd.Series,
    about: dict[str, Any],
    tested: dict[str, Any],
    validated: str,
    title: str,
    files: pd.DataFrame,
    latency: str,
    tolerance: str | None = None,
) -> str:
    """Return the card of the network released for a budget, in Markdown.

    Args:
        digest: SHA-256 of the model file.
        shipped: row of the table `ship`.
        about: metadata of the model file.
        tested: result of the evaluation: `AP` per class, None if not measurable, and `test_clips`.
        validated: description of what validation mAP is computed over.
        title: name of the corpus.
        files: rows of `exported.files_table` for this budget.
        latency: description of its column `ms`.
        tolerance: allowed deviation from a budget on parameters, to both sides. With None, it is a limit.
    """
    ap, audio = tested.get("AP") or {}, about["settings"]["audio"]
    over = measured_on(sum(value is not None for value in ap.values()), len(ap), int(tested["test_clips"]))
    seen = pd.notna(shipped["low mAP"])
    interval = f" [{shipped['low mAP']:.1f}, {shipped['high mAP']:.1f}]" if seen else ""
    spread = f", 95 % interval over test clips{interval}" if seen else ""
    kd_params = shipped["KD's #Params"]
    asked = budget_text(shipped["Budget"], tolerance)
    facts = [
        ("budget", asked),
        ("parameters", f"{shipped['#Params']:,}"),
        ("multiply-adds per clip", f"{shipped['Multiply-adds']:,}"),
        ("widths and depths of blocks 2 to 4", shipped["Network"]),
        (f"test mAP × 100, {over} [95 % interval over test clips]", f"{shipped['mAP']:.1f}{interval}"),
        (f"validation mAP × 100, {validated}, used for selection", f"{shipped['valid mAP']:.1f}"),
        (
            f"gain in test mAP × 100 over KD {shipped['KD of size']} ({kd_params:,} parameters), over seeds",
            gain_over_kd(shipped),
        ),
    ]
    classes = pd.DataFrame(
        [
            (mid, name, "" if ap.get(mid) is None else f"{100 * ap[mid]:.1f}", f"{threshold:.3f}")
            for mid, name, threshold in zip(
                about["classes"], about["names"], about["thresholds"], strict=True
            )
        ],
        columns=["Class", "Name", "AP", "Threshold"],
    )
    left = (
        "" if None not in ap.values() else " An empty value means that all test clips or none have the class."
    )
    metrics = [
        Metric("test", "mAP", round(shipped["mAP"], 2), f"mAP × 100, {over}{spread}"),
        Metric("validation", "mAP", round(shipped["valid mAP"], 2), f"mAP × 100, {validated}"),
        *(
            Metric("test", "mAP", round(row["mAP"], 2), f"mAP × 100 of {row['File']} by ONNX Runtime, {over}")
            for row in files[files.Format != "pytorch"].to_dict("records")
        ),
        *(
            Metric("test", "latency", row["ms"], f"{row['File']}:{latency}")
            for row in files[files.ms.notna()].to_dict("records")
        ),
    ]
    return (
        _front(name := f"CNN10 for {asked}", title, metrics)
        + _HEAD.format(title=name, what=_made(about, markdown(title)))
        + _table([*facts, *_origin(about, title), ("SHA-256", digest)])
        + _USE.format(file=files.File.iloc[0], seconds=audio["clip_seconds"], rate=audio["sample_rate"])
        + _FILES.format(table=markdown_table(shown(files.drop(columns="Budget"))), over=over, latency=latency)
        + _limits(about, title)
        + f"## Classes\n\nAverage precision × 100 on the test split.{left} Thresholds are chosen by "
        f"{about['thresholds_by']}.\n\n" + markdown_table(classes) + "\n"
    )


def _made(about: dict[str, Any], title: str) -> str:
    """Describe in a sentence how a network was trained."""
    steps = f"{about['iterations']:,} steps"
    return {
        "teacher": f"The teacher of the study: the full CNN10, trained on {title} for {steps}.",
        "individual": f"A uniform network, trained individually on {title} for {steps}, "
        f"{'by distillation' if about.get('recipe') == 'kd' else 'with labels only'}.",
        "init": "The architecture with the best supernet score near a budget, trained from random "
        f"initialization on {title} for {steps}, by distillation.",
        "finetuned": f"Extracted from a weight-sharing supernet trained on {title}, then fine-tuned by "
        f"distillation for {steps}.",
    }.get(
        about.get("kind", ""),
        f"Extracted from a weight-sharing supernet trained on {title}, without further training.",
    )


def supernet_card(
    digest: str, networks: pd.DataFrame, validated: str, about: dict[str, Any], title: str
) -> str:
    """Return the card of a supernet, in Markdown.

    Args:
        digest: SHA-256 of the model file.
        networks: the sub-networks, with columns `params` and `valid mAP` (x 100).
        validated, about, title: see `network_card`.
    """
    facts = [
        ("sub-networks", f"{len(networks):,}"),
        ("parameters of the sub-networks", f"{networks.params.min():,} to {networks.params.max():,}"),
        (
            f"validation mAP × 100, {validated}",
            f"{networks['valid mAP'].min():.1f} to {networks['valid mAP'].max():.1f}",
        ),
    ]
    what = f"One network that contains {len(networks):,} sub-networks, trained on {markdown(title)}."
    metrics = [
        Metric("validation", "mAP", round(value, 2), f"mAP × 100 of the {which} sub-network, {validated}")
        for which, value in (("best", networks["valid mAP"].max()), ("worst", networks["valid mAP"].min()))
    ]
    return (
        _front(name := f"Once-for-all supernet, space {about['space']}", title, metrics)
        + _HEAD.format(title=name, what=what)
        + _table([*facts, *_origin(about, title), ("SHA-256", digest)])
        + _CUT.format(params=f"{int(networks.params.median())}")
        + _limits(about, title).rstrip()
        + "\n"
    )


def _front(name: str, title: str, metrics: Iterable[Metric]) -> str:
    dataset = "soundfont" if title == STAND_IN else None
    return front_matter(name, tags=_TAGS, dataset=title, dataset_id=dataset, metrics=metrics)


def _origin(about: dict[str, Any], title: str) -> Iterable[tuple[str, str]]:
    audio, features = about["settings"]["audio"], about["settings"]["features"]
    yield "space", about.get("space", "none")
    yield "seed", about["seed"]
    yield "corpus", title
    yield "training clips", f"{about['train_clips']:,}"
    steps = {"optimiser steps": about["iterations"]}
    if about.get("kind") in ("found", "within", "supernet"):
        steps = {"optimiser steps of the supernet": about["iterations"]}
    elif "supernet_iterations" in about:
        steps = {"optimiser steps of the supernet": about["supernet_iterations"]}
        steps["optimiser steps of fine-tuning"] = about["iterations"]
    for name, count in steps.items():
        yield name, f"{count:,}"
    yield "input", f"{audio['clip_seconds']:g} s at {audio['sample_rate']:,} Hz, mono"
    yield from _sound(about)
    yield (
        "front end",
        "log-mel: "
        + ", ".join(
            f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}"
            for name, value in sorted(features.items())
        ),
    )


def _sound(about: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if heard := about.get("heard"):
        low, _, high = (hertz / 1000 for hertz in heard["bandwidth"])
        quiet, _, loud = heard["level"]
        yield (
            "bandwidth and level of the training clips, 5 % to 95 %",
            f"up to {low:.1f} to {high:.1f} kHz, at {quiet:.0f} to {loud:.0f} dBFS",
        )


def _limits(about: dict[str, Any], title: str) -> str:
    loud = " The corpus is rendered: the network was not trained on recordings." if title == STAND_IN else ""
    return _LIMITS.format(clips=f"{about['train_clips']:,}", stand_in=loud)


def _table(facts: Iterable[tuple[str, Any]]) -> str:
    return markdown_table(pd.DataFrame(facts, columns=["", " "])) + "\n\n"
