"""`report`: the study on one page that works offline."""

from __future__ import annotations

from audionas import paths
from audionas.config import Config, parse_size
from audionas.files import atomic_write
from audionas.reporting.report import page
from audionas.reporting.titles import title


def run(config: Config) -> None:
    """results/tables to results/report.html."""
    text = page(paths.TABLES, title(config.corpus), config.study, parse_size(config.search.tolerance))
    with atomic_write(paths.REPORT) as temporary:
        temporary.write_text(text, encoding="utf-8")
