"""Section `deploy` of `params.yaml`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from audionas.settings.values import LocalPath, Section


class Deploy(Section):
    """Released networks: detection thresholds and export."""

    # f1: the threshold of each class with the largest F1 on validation. A number: the lowest threshold with
    # at least this precision on validation.
    thresholds: Literal["f1"] | Annotated[float, Field(gt=0, le=1)] = "f1"
    calibration_clips: Annotated[int, Field(gt=0, le=100_000)] = 256  # training clips that set ranges of int8

    # device file (CSV) with latencies of whole networks, from `audionas measure`, for the table of files
    device: LocalPath = "devices/xeon.csv"

    @property
    def thresholds_by(self) -> str:
        """Description of how thresholds are chosen."""
        chosen = "F1" if self.thresholds == "f1" else f"precision {self.thresholds:g}"
        return f"{chosen} on validation"
