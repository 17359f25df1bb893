"""Environment variables that bear on how a stage runs; what is wrong in one is named before anything runs."""

from __future__ import annotations

import os

from audionas.runtime.errors import UserError

_LAUNCHER = "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"  # what `torchrun` sets beside WORLD_SIZE


def whole_number(name: str, default: int, least: int, most: int = 1_000_000) -> int:
    """A variable's whole number; the default where it is unset or empty.

    Raises UserError naming the variable: it is none, or out of range.
    """
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most:
        return int(text)
    raise UserError(
        f"{name}: {text[:60]!r} in the environment is not a whole number from {least} to {most:,}; "
        f"set one, or: unset {name}"
    )


def time_limit() -> float:
    """Seconds that this process may run, AUDIONAS_TIME_LIMIT; infinite where it is unset.

    Raises UserError: it is not a number of seconds.
    """
    text = os.environ.get("AUDIONAS_TIME_LIMIT", "")
    try:
        seconds = float(text) if text else float("inf")
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # nor NaN
        raise UserError(f"AUDIONAS_TIME_LIMIT: {text[:60]!r} is no number of seconds; give one, or unset it")
    return seconds


def world_size() -> int:
    """How many processes `torchrun` started for this stage, 1 without it.

    Raises UserError: WORLD_SIZE is more than 1, as some schedulers set it, and what `torchrun` sets with it
    is missing or does not fit.
    """
    size = whole_number("WORLD_SIZE", 1, 1)
    if size == 1:
        return 1
    if missing := [name for name in _LAUNCHER if not os.environ.get(name)]:
        raise UserError(
            f"WORLD_SIZE is {size} in the environment, but not {', '.join(missing)}: start several processes "
            "with `torchrun`, or run: unset WORLD_SIZE"
        )
    for name in ("RANK", "LOCAL_RANK"):
        whole_number(name, 0, 0, size - 1)
    whole_number("MASTER_PORT", 1, 1, 65_535)
    return size
