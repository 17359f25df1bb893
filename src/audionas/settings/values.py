"""Value types of `params.yaml`: sizes, budgets, paths, counts; each has a limit."""

from __future__ import annotations

import re
import unicodedata
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

SPLITS = ("train", "valid", "test")

_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)([kMG]?)")

_ADDRESS = re.compile(r"https?://[^\s{}]+")


def parse_size(text: str | int) -> int:
    """Parse a number of parameters such as `900000`, `900k` or `0.9M`.

    Raises ValueError for other text.
    """
    match = _SIZE.fullmatch(str(text))
    if not match:
        raise ValueError(f"{text!r} is not a number of parameters; write 900000, 900k or 0.9M")
    return round(float(match[1]) * {"": 1, "k": 1_000, "M": 1_000_000, "G": 1_000_000_000}[match[2]])


#: Units of quantities that users write, with their factors.
BYTES = {"B": 1, "kB": 1e3, "KiB": 1 << 10, "MB": 1e6, "MiB": 1 << 20, "GB": 1e9, "GiB": 1 << 30}
MILLISECONDS = {"us": 1e-3, "µs": 1e-3, "ms": 1, "s": 1e3}
MICROJOULES = {"nJ": 1e-3, "uJ": 1, "µJ": 1, "mJ": 1e3, "J": 1e6}

_QUANTITY = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?) ?([A-Za-zµ]{1,3})")


def parse_quantity(text: str, units: dict[str, float]) -> float:
    """Parse a positive number with a unit, such as `20ms`.

    Args:
        text: the number and the unit.
        units: accepted units, with the factor that each is multiplied by.

    Raises ValueError for other text.
    """
    match = _QUANTITY.fullmatch(text)
    if not match or match[2] not in units or not float(match[1]):
        raise ValueError(
            f"{text!r} is not a positive number with a unit; write it as 20{next(iter(units))}, in one of "
            f"{', '.join(units)}"
        )
    return float(match[1]) * units[match[2]]


class Constraint(NamedTuple):
    """A budget: a number of parameters, a maximum of multiply-adds per clip, or both."""

    params: int | None = None
    macs: int | None = None


def parse_constraint(text: str | int) -> Constraint:
    """Parse a budget such as `900k` (parameters), `1.2Gmacs` (multiply-adds), or both: `900k_1.2Gmacs`.

    Raises ValueError for other text.
    """
    sizes: dict[str, int] = {}
    for part in str(text).split("_"):
        kind = "macs" if part.endswith("macs") else "params"
        try:
            size = parse_size(part.removesuffix("macs"))
        except ValueError:
            size = 0
        if not size or kind in sizes:
            raise ValueError(
                f"{text!r} is not a budget; write a number of parameters such as 900k or 0.9M, of "
                "multiply-adds such as 1.2Gmacs, or both: 0.9M_1.2Gmacs"
            )
        sizes[kind] = size
    return Constraint(**sizes)


def checked(parse):
    def check(value):
        parse(value)
        return value

    return check


def _text(value: Any) -> Any:
    """Convert a number to text; the next validator checks other types."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _plain(text: str) -> str:
    if not text or not {"Cc", "Cs", "Zl", "Zp"}.isdisjoint(map(unicodedata.category, text)):
        raise ValueError("empty, or with control characters; write plain text on one line")
    return text


def _local(path: str) -> str:
    if "://" in path:
        raise ValueError("an address; write a path on this machine, and copy the files there")
    return path


def _address(text: str) -> str:
    if not _ADDRESS.fullmatch(text):
        raise ValueError("not an address; write it as https://host/path")
    return text


def video_address(text: str) -> str:
    if text.count("{ytid}") != 1 or not _ADDRESS.fullmatch(text.replace("{ytid}", "")):
        raise ValueError("not an http(s) address with {ytid} in it once; write it as the profiles do")
    return text


def unique(values: list, meaning=lambda value: value) -> list:
    if len({meaning(value) for value in values}) != len(values):
        raise ValueError("an entry appears twice; each names its own stage, so keep one")
    return values


# Every size has a limit, so that a typing error fails here and not on a full disk.
Text = Annotated[str, Field(max_length=4_096), AfterValidator(_plain)]

LocalPath = Annotated[Text, AfterValidator(_local)]

Address = Annotated[Text, AfterValidator(_address)]

Size = Annotated[str, BeforeValidator(_text), Field(max_length=40), AfterValidator(checked(parse_size))]

Budget = Annotated[
    str, BeforeValidator(_text), Field(max_length=40), AfterValidator(checked(parse_constraint))
]

Positive = Annotated[int, Field(gt=0, le=1_000_000_000)]

Count = Annotated[int, Field(ge=0, le=1_000_000_000)]

Seconds = Annotated[float, Field(ge=0, le=10_000_000)]

Rate = Annotated[float, Field(gt=0, le=100)]  # of learning

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range of NumPy and PyTorch

Fold = Annotated[int, Field(ge=-1_000_000_000, le=1_000_000_000)]

Folds = Annotated[list[Fold], Field(min_length=1, max_length=1_000), AfterValidator(unique)]


class Section(BaseModel):
    """A section of `params.yaml`; unknown keys are errors, and values are not coerced."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
