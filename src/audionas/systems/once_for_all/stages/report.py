"""Stage `report`: one HTML page with the results of the study, which works offline."""

from __future__ import annotations

from audionas.reporting.captions import corpus_title
from audionas.runtime.files import atomic_write
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.page import page


def run(config: Config) -> None:
    """Write results/report.html from results/tables and models/release.

    Raises:
        UserError: a table is missing or damaged.
    """
    title = corpus_title(config.corpus)
    text = page(paths.TABLES, paths.released("").parent, title, config.study, config.search)
    with atomic_write(paths.REPORT) as temporary:
        temporary.write_text(text, encoding="utf-8")
