"""`audionas classify`: classify recordings."""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

from audionas.data import paths as data_paths
from audionas.data.ledger import CLASSES, read_rows
from audionas.runtime.errors import UserError
from audionas.runtime.text import line, lines

_PATH = 4096  # most characters shown of a path
_MANY = 10  # recordings; more than these show a progress bar


def run(options: argparse.Namespace) -> int:
    """Print the most probable classes of each recording, and return the exit code.

    Raises:
        UserError: the model file is a recording, or cannot be read.
    """
    _require_model(options.model, options.recordings)
    from tqdm import tqdm

    from audionas.inference import Classifier

    classify = Classifier(options.model)
    beside = Path(options.model).with_name(data_paths.CLASSES.name)
    listed = read_rows(beside, CLASSES) if beside.exists() else []
    names = {row["mid"]: row["display_name"] for row in listed}
    failed = 0
    # Progress is shown only on a terminal, and for many recordings.
    quiet = None if len(options.recordings) > _MANY else True
    with tqdm(options.recordings, desc="classify", unit="files", disable=quiet, leave=False) as bar:
        for recording in bar:
            try:
                heard = classify.predict(recording)
            except UserError as error:
                failed += 1
                bar.write(f"audionas classify: {lines(error)}", file=sys.stderr)
                continue
            for warning in heard.warnings:
                bar.write(f"audionas classify: {line(recording, _PATH)}: warning: {warning}", file=sys.stderr)
            rest = f" (first {classify.clip_seconds:g} s of {heard.seconds:.1f} s)"
            said = [line(recording, _PATH) + rest * (round(heard.seconds, 1) > classify.clip_seconds)]
            for place in (-heard.probabilities).argsort()[: options.top]:
                mid = classify.classes[place]
                said.append(f"  {heard.probabilities[place]:.3f}  {line(names.get(mid, mid))}")
            bar.write("\n".join(said), file=sys.stdout)
    if failed:
        print(
            f"audionas classify: {failed} of {len(options.recordings)} recordings not classified",
            file=sys.stderr,
        )
    return int(failed > 0)


def _require_model(model: str, recordings: list[str]) -> None:
    """Reject a recording in place of the model, before PyTorch is imported."""
    from audionas.audio.containers import container

    try:
        with Path(model).open("rb") if Path(model).is_file() else io.BytesIO() as file:
            head = file.read(64)
    except OSError:
        return  # the model reader reports it
    if container(head).extension != "bin":
        given = " ".join(line(name, _PATH) for name in (model, *recordings[:2]))
        raise UserError(
            f"{line(model, _PATH)}: a recording, not a model file; pass the model file first, for "
            f"example: audionas classify models/release/26k.pt {given}" + " …" * (len(recordings) > 2)
        )
