"""Model cards (Mitchell et al., 2019): what one who gets a file needs to know of it, from the results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from audionas.reporting.captions import STAND_IN, basis, budget, over_kd
from audionas.reporting.markup import markdown
from audionas.reporting.table_files import markdown_table

_HEAD = """\
---
library_name: audionas
pipeline_tag: audio-classification
tags: [audio-event-classification, once-for-all, cnn10]
---

# {title}

{what}

"""
_USE = """\
## Use

```python
from audionas.inference import Classifier

classify = Classifier("{file}")
for name, probability in zip(classify.classes, classify("recording.wav")):
    print(name, probability)
```

Or `audionas classify {file} recording.wav`. Any format that libsndfile reads will do, and M4A, AAC, WebM,
WMA and AMR, which ffmpeg decodes; it is mixed to mono and resampled, and its first {seconds:g} seconds
count, with silence after where it is shorter.

"""
_CUT = """\
## Use

A supernet is no classifier: networks are cut out of it, for any budget and without training. The project does
so: get it with its data (`dvc pull`), add a budget to `study.constraints`, and run `dvc repro`.

"""
_LIMITS = """\
## Limits

Trained on {clips} clips and measured on others of the same corpus; nothing here says how it does on other
microphones and rooms. The interval is over test clips; another seed may give a network a few points
better or worse. Do not use it where a missed or an invented sound could harm someone.{stand_in}

"""


def network_card(
    file: str,
    digest: str,
    shipped: pd.Series,
    about: dict[str, Any],
    tested: dict[str, Any],
    validated: str,
    names,
    title: str,
    tolerance: str | None = None,
) -> str:
    """The card of a network that is shipped for a budget, in Markdown.

    Args:
        file, digest: its name, and the SHA-256 of its content.
        shipped: its row of the table `ship`.
        about: what the model file knows of itself.
        tested: what evaluation measured: `AP` of each class, None where it can't be measured, `test_clips`.
        validated: what validation mAP is the mean over, in words.
        names: of the classes, by their ids.
        title: of the corpus.
        tolerance: of a budget on parameters, to both sides; None: it is a limit.
    """
    ap = tested.get("AP") or {}
    over = basis(sum(value is not None for value in ap.values()), len(ap), int(tested["test_clips"]))
    seen = pd.notna(shipped["low mAP"])
    interval = f" [{shipped['low mAP']:.1f}, {shipped['high mAP']:.1f}]" if seen else ""
    kd_params = shipped["KD's #Params"]
    asked = budget(shipped["Budget"], tolerance)
    facts = [
        ("budget", asked),
        ("parameters", f"{shipped['#Params']:,}"),
        ("multiply-adds a clip", f"{shipped['Multiply-adds']:,}"),
        ("widths and depths of blocks 2 to 4", shipped["Network"]),
        (f"test mAP × 100, {over} [95 % interval over test clips]", f"{shipped['mAP']:.1f}{interval}"),
        (f"validation mAP × 100, {validated}, which it was chosen by", f"{shipped['valid mAP']:.1f}"),
        (
            f"test mAP × 100 over KD alone ({shipped['KD of size']}, {kd_params:,} parameters), over seeds",
            over_kd(shipped),
        ),
    ]
    classes = pd.DataFrame(
        [
            (mid, names.get(mid, mid), "" if value is None else f"{100 * value:.1f}")
            for mid, value in ap.items()
        ],
        columns=["Class", "Name", "AP"],
    )
    left = "" if None not in ap.values() else " Empty where every test clip has the class, or none."
    return (
        _HEAD.format(title=f"CNN10 for {asked}", what=_made(about, markdown(title)))
        + _table([*facts, *_origin(about, title), ("SHA-256", digest)])
        + _USE.format(file=file, seconds=about["settings"]["audio"]["clip_seconds"])
        + _limits(about, title)
        + f"## Classes\n\nAverage precision × 100 on the test split.{left}\n\n"
        + markdown_table(classes)
        + "\n"
    )


def _made(about: dict[str, Any], title: str) -> str:
    """How a network came to be, in a sentence."""
    steps = f"{about['iterations']:,} steps"
    return {
        "teacher": f"The study's teacher: the full CNN10, trained on {title} for {steps}.",
        "individual": f"A uniform network that was trained by itself on {title} for {steps}, by "
        f"{'distillation' if about.get('recipe') == 'kd' else 'its labels'}.",
        "init": "An architecture that a weight-sharing supernet scored best near a budget, trained from "
        f"fresh weights on {title} for {steps}, by distillation.",
        "finetuned": f"Cut out of a weight-sharing supernet that was trained on {title}, then fine-tuned by "
        f"distillation for {steps}.",
    }.get(
        about.get("kind", ""),
        f"Cut out of a weight-sharing supernet that was trained on {title}; not trained by itself.",
    )


def supernet_card(
    digest: str, networks: pd.DataFrame, validated: str, about: dict[str, Any], title: str
) -> str:
    """The card of a supernet.

    Args:
        digest: the SHA-256 of its file.
        networks: its sub-networks, with `params` and `valid mAP` x 100.
        about, validated, title: as of `network_card`.
    """
    facts = [
        ("sub-networks", f"{len(networks):,}"),
        ("their parameters", f"{networks.params.min():,} to {networks.params.max():,}"),
        (
            f"validation mAP × 100, {validated}",
            f"{networks['valid mAP'].min():.1f} to {networks['valid mAP'].max():.1f}",
        ),
    ]
    what = f"One network that holds {len(networks):,} of different size; trained on {markdown(title)}."
    return (
        _HEAD.format(title=f"Once-for-all supernet, space {about['space']}", what=what)
        + _table([*facts, *_origin(about, title), ("SHA-256", digest)])
        + _CUT
        + _limits(about, title).rstrip()
        + "\n"
    )


def _origin(about: dict[str, Any], title: str) -> Iterable[tuple[str, str]]:
    audio, features = about["settings"]["audio"], about["settings"]["features"]
    yield "space", about.get("space", "none")
    yield "seed", about["seed"]
    yield "corpus", title
    yield "clips to train on", f"{about['train_clips']:,}"
    steps = {"optimiser steps": about["iterations"]}
    if about.get("kind") in ("found", "within", "supernet"):
        steps = {"optimiser steps, of the supernet": about["iterations"]}
    elif "supernet_iterations" in about:
        steps = {"optimiser steps, of the supernet": about["supernet_iterations"]}
        steps["optimiser steps, of fine-tuning"] = about["iterations"]
    for name, count in steps.items():
        yield name, f"{count:,}"
    yield "input", f"{audio['clip_seconds']:g} s at {audio['sample_rate']:,} Hz, mono"
    yield from _sound(about)
    yield (
        "front end",
        "log-mel: " + ", ".join(f"{name} {value:g}" for name, value in sorted(features.items())),
    )


def _sound(about: dict[str, Any]) -> Iterable[tuple[str, str]]:
    if heard := about.get("heard"):
        low, _, high = (hertz / 1000 for hertz in heard["bandwidth"])
        quiet, _, loud = heard["level"]
        yield (
            "sound of the clips to train on, 5 % to 95 %",
            f"up to {low:.1f} to {high:.1f} kHz, at {quiet:.0f} to {loud:.0f} dBFS",
        )


def _limits(about: dict[str, Any], title: str) -> str:
    loud = " The corpus is rendered: the network has never heard a recording." if title == STAND_IN else ""
    return _LIMITS.format(clips=f"{about['train_clips']:,}", stand_in=loud)


def _table(facts: Iterable[tuple[str, Any]]) -> str:
    return markdown_table(pd.DataFrame(facts, columns=["", " "])) + "\n\n"
