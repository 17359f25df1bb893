"""Stage `listen`: a page that classifies sound in the browser with the network of the last budget."""

from __future__ import annotations

from audionas.deploy.page.build import write_page
from audionas.reporting.captions import budget_text, corpus_name
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config

_WINDOW = 2.0  # seconds; a longer one answers later


def run(config: Config) -> None:
    """Write results/listen.html from the ONNX file of the last budget of the study.

    Raises:
        UserError: the file is missing or damaged, or onnxruntime-web is not installed.
    """
    constraint = config.study.constraints[-1]
    budget = budget_text(constraint, config.search.released_tolerance)
    title = f"{config.num_classes} classes of {corpus_name(config.corpus)}, {budget}"
    model = paths.exported(constraint) / f"{constraint}.onnx"
    window = min(_WINDOW, config.audio.clip_seconds)
    write_page(model, paths.LISTEN, title, window, window / 4)
