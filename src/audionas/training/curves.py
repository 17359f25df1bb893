"""Training curves through DVCLive."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Curves:
    """Writes curves with DVCLive: one table per metric, and the last values in `metrics.json`.

    The folder is emptied on entry. A resumed run writes its history again.

    Args:
        folder: folder of the curves.
        history: points of the run before it was interrupted, in order.
    """

    def __init__(self, folder: Path, history: list[dict[str, float]]):
        self.folder, self.history = folder, history

    def __enter__(self) -> Curves:
        from dvclive import Live  # imported here because the import takes half a second

        with self._named_errors():
            if self.folder.exists():
                shutil.rmtree(self.folder)
            # DVCLive writes no dvc.yaml and no experiment, because the pipeline declares the folder.
            self.live = Live(str(self.folder), save_dvc_exp=False, dvcyaml=None, monitor_system=False)
            for point in self.history:
                self.add(point)
        return self

    def add(self, point: dict[str, float]) -> None:
        """Add one point; `iteration` is the step, all other entries are metrics."""
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
        """Make OSError name the whole folder."""
        try:
            yield
        except OSError as error:
            if error.errno:
                error.filename = str(self.folder)  # shutil.rmtree names only the file
            raise
