"""Environment variables of a stage, validated before it runs."""

from __future__ import annotations

import os

from audionas.runtime.errors import UserError

_LAUNCHER = "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"  # what `torchrun` sets beside WORLD_SIZE


def whole_number(name: str, default: int, least: int, most: int = 1_000_000) -> int:
    """Return a variable as a whole number, or the default if it is unset or empty.

    Raises UserError naming the variable if it is not a whole number or out of range.
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
    """Return the time limit of this process in seconds, AUDIONAS_TIME_LIMIT; infinite if it is unset.

    Raises UserError if it is not a number of seconds.
    """
    text = os.environ.get("AUDIONAS_TIME_LIMIT", "")
    try:
        seconds = float(text) if text else float("inf")
    except ValueError:
        seconds = -1.0
    if not seconds >= 0:  # nor NaN
        raise UserError(
            f"AUDIONAS_TIME_LIMIT: {text[:60]!r} is not a number of seconds; set one, or unset it"
        )
    return seconds


def world_size() -> int:
    """Return the number of processes that `torchrun` started for this stage; 1 without it.

    Raises UserError if WORLD_SIZE is above 1, as some schedulers set it, and the other variables of
    `torchrun` are missing or inconsistent.
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
