"""Model cards (Mitchell et al., 2019): what one who gets a file needs to know of it, from the results."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from audionas.reporting.titles import STAND_IN, budget, excess, over_kd

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

Or `audionas classify {file} recording.wav`. Any format that libsndfile reads will do; it is mixed to mono and
resampled, and its first {seconds:g} seconds count, with silence after where it is shorter.

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
    file: str, digest: str, shipped: pd.Series, about: dict[str, Any], per_class: pd.DataFrame, title: str
) -> str:
    """The card of a network that is shipped for a budget, in Markdown.

    Args:
        file, digest: its name, and the SHA-256 of its content.
        shipped: its row of the table `ship`.
        about: what the model file knows of itself.
        per_class: `Class`, `Name` and `AP`, x 100 on the test split.
        title: of the corpus.
    """
    seen = pd.notna(shipped["low mAP"])
    interval = f" [{shipped['low mAP']:.1f}, {shipped['high mAP']:.1f}]" if seen else ""
    kd_params, over = shipped["KD's #Params"], excess(shipped["Budget"], shipped["#Params"])
    facts = [
        ("budget", budget(shipped["Budget"])),
        ("parameters", f"{shipped['#Params']:,}" + (f"; {over}" if over else "")),
        ("multiply-adds a clip", f"{shipped['Multiply-adds']:,}"),
        ("widths and depths of blocks 2 to 4", shipped["Network"]),
        ("test mAP × 100 [95 % interval over test clips]", f"{shipped['mAP']:.1f}{interval}"),
        ("validation mAP × 100, which it was chosen by", f"{shipped['valid mAP']:.1f}"),
        (
            f"test mAP × 100 over KD alone ({shipped['KD of size']}, {kd_params:,} parameters), over seeds",
            over_kd(shipped),
        ),
    ]
    what = f"Cut out of a weight-sharing supernet that was trained on {title}; not trained by itself."
    return (
        _HEAD.format(title=f"Once-for-all CNN10 for {shipped['Budget']}", what=what)
        + _table([*facts, *_origin(about, title), ("SHA-256", f"`{digest}`")])
        + _USE.format(file=file, seconds=about["settings"]["audio"]["clip_seconds"])
        + _limits(about, title)
        + "## Classes\n\nAverage precision × 100 on the test split.\n\n"
        + per_class.to_markdown(index=False, floatfmt=".1f")
        + "\n"
    )


def supernet_card(digest: str, networks: pd.DataFrame, about: dict[str, Any], title: str) -> str:
    """The card of a supernet; `networks` are its sub-networks, with `params` and `valid mAP` x 100."""
    facts = [
        ("search space", about["space"]),
        ("sub-networks", f"{len(networks):,}"),
        ("their parameters", f"{networks.params.min():,} to {networks.params.max():,}"),
        ("validation mAP × 100", f"{networks['valid mAP'].min():.1f} to {networks['valid mAP'].max():.1f}"),
    ]
    what = f"One network that holds {len(networks):,} of different size; trained on {title}."
    return (
        _HEAD.format(title=f"Once-for-all supernet, space {about['space']}", what=what)
        + _table([*facts, *_origin(about, title), ("SHA-256", f"`{digest}`")])
        + _CUT
        + _limits(about, title).rstrip()
        + "\n"
    )


def _origin(about: dict[str, Any], title: str) -> Iterable[tuple[str, str]]:
    audio, features = about["settings"]["audio"], about["settings"]["features"]
    yield "space and seed", f"{about['space']}, {about['seed']}"
    yield "corpus", title
    yield "clips to train on", f"{about['train_clips']:,}"
    yield "optimiser steps, of the supernet", f"{about['iterations']:,}"
    yield "input", f"{audio['clip_seconds']:g} s at {audio['sample_rate']:,} Hz, mono"
    yield (
        "front end",
        "log-mel: " + ", ".join(f"{name} {value:g}" for name, value in sorted(features.items())),
    )


def _limits(about: dict[str, Any], title: str) -> str:
    loud = " The corpus is rendered: the network has never heard a recording." if title == STAND_IN else ""
    return _LIMITS.format(clips=f"{about['train_clips']:,}", stand_in=loud)


def _table(facts: Iterable[tuple[str, str]]) -> str:
    rows = pd.DataFrame(facts, columns=["", " "]).map(lambda text: str(text).replace("|", "\\|"))
    return rows.to_markdown(index=False, disable_numparse=True) + "\n\n"
