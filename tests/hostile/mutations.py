"""Random damage to bytes, tables and nested values, drawn from a `random.Random`."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import random
import struct
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

_NUMBERS = (
    0,
    1,
    2,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
    1 << 40,
)
#: Unexpected text for cells and values.
TEXTS = (
    *(
        "",
        " ",
        "\u00a0",
        "nan",
        "NaN",
        "None",
        "null",
        "inf",
        "-inf",
        "-1",
        "-0",
        "0",
        "1.0",
        "1e5",
        "1e309",
        "1_000",
        "0x10",
    ),
    *(
        "010",
        "１２",
        "9" * 5_000,
        "true",
        "~",
        "../..",
        "/etc/passwd",
        "a/../../b",
        "C:\\x",
        "a\0b",
        "\x1b[31mred\x1b[0m",
    ),
    *(
        "a\nb",
        "a\r\nb",
        '"',
        "''",
        "=1+1",
        "@x",
        "|",
        ";",
        ",",
        "\t",
        "\u202eabc",
        "\ud83d",
        "é",
        "e\u0301",
        "x" * 100_000,
    ),
    *(
        "[" * 2_000,
        "{a: " * 500,
        "&a [*a]",
        "!!python/name:os.system",
        "%s{0}",
        "$(touch x)",
        "; touch x #",
        "--help",
        "#",
    ),
)
#: Unexpected values.
VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2**31,
        2**63,
        10**400,
        -(10**30),
        0.0,
        -0.5,
        1e-320,
        1e308,
        float("nan"),
        float("inf"),
    ),
    *([], {}, [[]], [None], [0] * 1_000, {"a": {"b": 1}}, *TEXTS),
)


def damage_bytes(chance: random.Random, data: bytes, others: Sequence[bytes] = ()) -> bytes:
    """Flip, overwrite, delete, insert, repeat, truncate or splice bytes, most often near the start."""
    damaged = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8, 30))):
        reach = min(len(damaged), chance.choice((16, 64, 256, 1024, 1 << 40)))
        if not reach:
            break
        at, size = chance.randrange(reach), chance.choice((1, 2, 4, 8, 64, 1000))
        match chance.randrange(7):
            case 0:
                damaged[at] ^= 1 << chance.randrange(8)
            case 1:
                kind = chance.choice(("<H", ">H", "<I", ">I", "<Q", ">Q"))
                number = struct.pack(kind, chance.choice(_NUMBERS) & (256 ** struct.calcsize(kind) - 1))
                damaged[at : at + len(number)] = number
            case 2:
                del damaged[at : at + size]
            case 3:
                damaged[at:at] = chance.randbytes(size)
            case 4:
                damaged[at:at] = damaged[at : at + size]
            case 5:
                del damaged[chance.randrange(len(damaged)) :]
            case 6:
                other = chance.choice([*others, data])
                begin = chance.randrange(max(1, len(other)))
                damaged[at : at + size] = other[begin : begin + size]
    return bytes(damaged)


def damage_table(chance: random.Random, text: str) -> bytes:
    """Change cells, rows, columns, delimiters, encoding or line ends of a CSV, or damage its bytes."""
    if chance.random() < 0.25:
        return damage_bytes(chance, text.encode())
    rows = list(csv.reader(io.StringIO(text)))
    for _ in range(chance.choice((1, 1, 2, 5))):
        row = rows[chance.randrange(len(rows))] if rows else []
        match chance.randrange(8):
            case 0 | 1 | 2 if row:
                row[chance.randrange(len(row))] = chance.choice(TEXTS)
            case 3 if row:
                other = chance.choice(rows)
                row[chance.randrange(len(row))] = chance.choice(other or [""])
            case 4 if row:
                row.pop(chance.randrange(len(row)))
            case 5:
                row.insert(chance.randrange(len(row) + 1), chance.choice(TEXTS))
            case 6 if rows:
                rows.insert(chance.randrange(len(rows) + 1), list(chance.choice(rows)))
            case 7 if rows:
                rows.pop(chance.randrange(len(rows)))
    file = io.StringIO()
    delimiter = chance.choice(",,,,,,;\t")
    writer = csv.writer(file, delimiter=delimiter, lineterminator=chance.choice(("\n", "\n", "\r\n", "\r")))
    with contextlib.suppress(csv.Error):
        writer.writerows(rows)
    return file.getvalue().encode(
        chance.choice(("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace"
    )


def damage_tree(chance: random.Random, tree: Any) -> Any:
    """Copy nested dicts and lists, with values replaced, and keys renamed, removed or added."""
    tree = copy.deepcopy(tree)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        holders = [(holder, key) for holder, key in _places(tree)]
        if not holders:
            break
        holder, key = chance.choice(holders)
        match chance.randrange(6):
            case 0 if isinstance(holder, dict):
                del holder[key]
            case 1 if isinstance(holder, dict):
                holder[chance.choice([text for text in TEXTS if len(text) < 100])] = holder.pop(key)
            case 2:
                holder[key] = copy.deepcopy(chance.choice(holders)[0])
            case _:
                holder[key] = chance.choice(VALUES)
    return tree


def damage_zip(chance: random.Random, data: bytes) -> bytes:
    """Copy an archive, with a member changed, removed, duplicated, renamed or recompressed."""
    source = zipfile.ZipFile(io.BytesIO(data))
    names = source.namelist()
    hit, what, file = chance.choice(names), chance.randrange(8), io.BytesIO()
    with zipfile.ZipFile(file, "w", chance.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name in names:
            content = source.read(name)
            if name == hit:
                match what:
                    case 0:
                        continue
                    case 1:
                        content = content[: chance.randrange(len(content) + 1)]
                    case 2:
                        content += bytes(chance.choice((1, 100, 1 << 20, 1 << 28)))
                    case 3:
                        name = chance.choice(
                            [text for text in TEXTS if text and len(text) < 100 and text.isprintable()]
                        )
                    case 4:
                        content = source.read(chance.choice(names))
                    case _:
                        content = damage_bytes(chance, content)
            archive.writestr(name, content)
    packed = file.getvalue()
    return damage_bytes(chance, packed) if chance.random() < 0.1 else packed


def _places(tree: Any) -> Iterator[tuple[Any, Any]]:
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield tree, key
        yield from _places(value)
