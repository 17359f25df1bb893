"""Read files of `torch.save` with bounds, after checks of the zip file, every record and the pickle.

`weights_only` of PyTorch prevents a pickle from running code. It does not verify checksums of records, and
limits neither their size nor the objects that the pickle builds.
"""

from __future__ import annotations

import io
import os
import pickletools
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch

from audionas.runtime.files import open_regular

_TENSOR = ("torch._utils _rebuild_tensor_v2", "torch._utils _rebuild_parameter", "collections OrderedDict")
_STORAGES = {
    f"torch {kind}Storage" for kind in ("Float", "Double", "Half", "BFloat16", "Long", "Int", "Bool")
}
_OPERATIONS = {
    *("PROTO", "STOP", "GLOBAL", "REDUCE", "BINPERSID", "MARK", "NONE", "NEWTRUE", "NEWFALSE"),
    *("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "EMPTY_DICT", "EMPTY_LIST"),
    *("EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "APPEND", "APPENDS", "SETITEM", "SETITEMS"),
    *("BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT", "BUILD"),
}
_RECORDS = 10_000
_REPEATED = 16


def load_archive(path: Path, largest: int, operations: int) -> Any:
    """Load the tensors (on the CPU) and plain values of a file in the zip format of PyTorch.

    Args:
        path: the file.
        largest: maximum size of the file in bytes; loading takes twice as much memory.
        operations: maximum number of operations in the pickle.

    Raises:
        OSError: the file cannot be read.
        UnfitFileError: the file is not a regular file, or is too large.
        ValueError: the file is of another format, damaged, or exceeds a limit. PyTorch may raise others.
    """
    with open_regular(path, largest) as file:
        checked = _checked(file, os.fstat(file.fileno()).st_size, operations)
    return torch.load(checked, map_location="cpu", weights_only=True)


def _checked(file: BinaryIO, size: int, operations: int) -> io.BytesIO:
    """Copy the archive with verified checksums, because PyTorch has its own zip reader."""
    with zipfile.ZipFile(file) as archive:
        records = archive.infolist()
        names = {record.filename for record in records}
        top = records[0].filename.partition("/")[0] if records else ""
        if len(names) < len(records) or len(records) > _RECORDS or f"{top}/data.pkl" not in names:
            raise ValueError("not written by torch.save")
        if any(record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1 for record in records):
            raise ValueError("a record is compressed or encrypted")
        if sum(record.file_size for record in records) > size:
            raise ValueError("the records are larger than the file")
        _check_pickle(archive.read(f"{top}/data.pkl"), operations)
        order = f"{top}/byteorder"
        if order in names and archive.read(order) != sys.byteorder.encode():
            raise ValueError("written on a machine with another byte order")
        checked = io.BytesIO()
        with zipfile.ZipFile(checked, "w") as copy:
            for record in records:
                copy.writestr(zipfile.ZipInfo(record.filename), archive.read(record))
    checked.seek(0)
    return checked


def _check_pickle(content: bytes, operations: int) -> None:
    """Raise ValueError for too many operations, or for ones that tensors and plain values do not need."""
    end, before, tuples, repeated = 0, "", set(), 0
    for number, (operation, argument, at) in enumerate(pickletools.genops(content)):
        if number >= operations:
            raise ValueError(f"the pickle has more than {operations:,} operations")
        if operation.name not in _OPERATIONS:
            raise ValueError(f"the pickle has the operation {operation.name}")
        if operation.name == "GLOBAL" and argument not in _STORAGES and argument not in _TENSOR:
            raise ValueError(f"the pickle names {argument!r:.60}")
        if operation.name in ("BINPUT", "LONG_BINPUT"):
            if argument > len(content):
                raise ValueError("the pickle is damaged")
            if before in ("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"):
                tuples.add(argument)
        if operation.name in ("BINGET", "LONG_BINGET") and argument in tuples:
            repeated += 1
            if repeated > _REPEATED:  # a few bytes could build a key that takes years to hash
                raise ValueError("the pickle repeats tuples")
        end, before = at, operation.name
    if end + 1 != len(content):
        raise ValueError("the pickle has data after its end")
