"""Training curves through DVCLive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Curves:
    """Writes points of a curve as DVCLive does, one table a metric, and the last values as `metrics.json`.

    The folder is emptied first: a resumed run writes the points of its history again.
    """

    def __init__(self, folder: Path, history: list[dict[str, float]]):
        self.folder, self.history = folder, history

    def __enter__(self) -> Curves:
        from dvclive import Live  # takes half a second to import

        with self._named_errors():
            if self.folder.exists():
                shutil.rmtree(self.folder)
            # Neither dvc.yaml nor an experiment: the pipeline declares the folder itself.
            self.live = Live(str(self.folder), save_dvc_exp=False, dvcyaml=None, monitor_system=False)
            for point in self.history:
                self.add(point)
        return self

    def add(self, point: dict[str, float]) -> None:
        """One point; `iteration` is the step, the rest are metrics."""
        with self._named_errors():
            self.live.step = point["iteration"]
            for name, value in point.items():
                if name != "iteration":
                    self.live.log_metric(name, value, timestamp=False)
            self.live.make_summary()

    def __exit__(self, *error) -> None:
        with self._named_errors():
            self.live.end()

    @contextmanager
    def _named_errors(self) -> Iterator[None]:
        """Errors of the operating system name the folder."""
        try:
            yield
        except OSError as error:
            if error.errno:
                error.filename = str(self.folder)  # removing a file names it without its folder
            raise
