"""`report`: the study on one page that works offline."""

from __future__ import annotations

from audionas.reporting.captions import title
from audionas.runtime.files import atomic_write
from audionas.systems.once_for_all import paths
from audionas.systems.once_for_all.config import Config
from audionas.systems.once_for_all.page import page


def run(config: Config) -> None:
    """results/tables to results/report.html."""
    text = page(paths.TABLES, title(config.corpus), config.study, config.search)
    with atomic_write(paths.REPORT) as temporary:
        temporary.write_text(text, encoding="utf-8")
