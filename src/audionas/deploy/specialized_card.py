"""The model card of a network that `audionas specialize` cut out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from audionas.deploy.specialize import COSTS, Candidates, budget_phrase
from audionas.reporting.markup import markdown

_CARD = """\
---
library_name: audionas
pipeline_tag: audio-classification
tags: [audio-event-classification, once-for-all]
---

# Network for {budget}

Extracted from a weight-sharing supernet trained on {corpus}, without further training: of all {count:,}
sub-networks, the one with the highest validation score within the budget.

{facts}

{devices}## Use

```python
from audionas.inference import Classifier

classify = Classifier("{file}")
for name, probability in zip(classify.names, classify("recording.wav")):
    print(name, probability)
```

Or run `audionas classify {file} recording.wav`.

## One step up or down

The networks next to it on the Pareto front of {axes} and score.

{steps}

## Limits

The score was measured on the validation clips, when the whole supernet was scored, and it selected the
network: expect less on new recordings. The network was not evaluated on test clips. It has no thresholds of
its own. Costs exclude the front end, which turns a waveform into the network's input. Do not use the model
where a missed or false detection could harm someone.
"""


def specialized_card(
    file: str,
    about: dict[str, Any],
    digest: str,
    candidates: Candidates,
    limits: Sequence[str],
    place: int,
    device: str | None,
) -> str:
    """Return the card, in Markdown.

    Args:
        file: name of the model file.
        about: metadata of the model file.
        digest: SHA-256 of the model file.
        candidates: the networks that it was chosen from.
        limits: names of the limited costs.
        place: index of the network.
        device: name of the device; None without one.
    """
    audio = about["settings"]["audio"]
    budget = budget_phrase(about["budget"])
    facts = [("budget", budget)]
    facts += [(label(name, candidates), candidates.shown(name, place)) for name in candidates.costs]
    facts += [
        ("architecture", about["architecture"]),
        ("validation mAP × 100", f"{100 * about['valid_mAP']:.1f}"),
        ("supernet", about["supernet"]),
        ("space", about["space"]),
        ("seed", about.get("seed", "not stated")),
        ("training clips", about.get("train_clips", "not stated")),
        ("classes", len(about.get("classes", []))),
        ("input", f"{audio['clip_seconds']:g} s at {audio['sample_rate']:,} Hz, mono"),
        ("SHA-256", digest),
    ]
    notes = [f"{COSTS[name].label.capitalize()}: {cost.note}." for name, cost in candidates.of_device.items()]
    told = f"Device: {markdown(device)}. {' '.join(map(markdown, notes))}\n\n" if device else ""
    front = [int(each) for each in candidates.front(limits)]
    at = front.index(place)
    rows = []
    for name, step in (("down", at - 1), ("this network", at), ("up", at + 1)):
        if 0 <= step < len(front):
            costs = [candidates.shown(cost, front[step]) for cost in candidates.costs]
            network = candidates.space[front[step]]
            rows.append((name, f"{100 * candidates.scores[front[step]]:.1f}", *costs, network))
    head = ["", "validation mAP × 100", *(label(name, candidates) for name in candidates.costs), "network"]
    return _CARD.format(
        budget=budget,
        corpus=markdown(about.get("corpus", "an unnamed corpus")),
        count=len(candidates.space),
        facts=_table(["", " "], facts),
        devices=told,
        file=file,
        axes=" and ".join(COSTS[name].label for name in limits),
        steps=_table(head, rows),
    )


def label(name: str, candidates: Candidates) -> str:
    """Return the label of a cost, with the type that peak memory is counted for."""
    return f"{COSTS[name].label} ({candidates.dtype})" if name == "peak_memory" else COSTS[name].label


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([markdown(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
