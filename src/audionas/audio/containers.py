"""Identify audio containers by their bytes, and detect truncated files."""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Container:
    """A file format.

    Attributes:
        extension: of file names.
        demuxer: ffmpeg's name of the format if libsndfile cannot read it, else "".
    """

    extension: str
    demuxer: str = ""


class Truncated(Exception):
    """The file is shorter than its headers state."""


_OPEN = 0x7F00_0000  # a program that writes to a pipe does not know the size and writes this or more
_OPEN_64 = 1 << 40
_FLAC_FRAMES = (1 << 36) - 1  # the maximum of STREAMINFO
_W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_DATA = b"data\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_KNOWN = (  # magic bytes, offset, format
    (b"OggS", 0, Container("ogg")),
    (b"WAVE", 8, Container("wav")),
    (_W64, 0, Container("w64")),
    (b"fLaC", 0, Container("flac")),
    (b"ID3", 0, Container("mp3")),
    (b"FORM", 0, Container("aiff")),
    (b".snd", 0, Container("au")),
    (b"caff", 0, Container("caf")),
    (b"ftyp", 4, Container("m4a", "mov")),
    (b"\x1aE\xdf\xa3", 0, Container("webm", "matroska")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, Container("wma", "asf")),
    (b"#!AMR", 0, Container("amr", "amr")),
    (b"wvpk", 0, Container("wv", "wv")),
)
_ADTS = Container("aac", "aac")
_CAF_OF_AAC = Container("caf", "caf")
_MPEG = Container("mp3", "mp3")
_UNKNOWN = Container("bin")
_SYNC = re.compile(rb"\xff[\xe2-\xff]")
_SEARCHED = 1 << 20  # bytes searched for the start of MPEG audio
_CHAIN = 4  # consecutive frames that identify MPEG audio
_KBIT = {  # (MPEG 1, layer): kbit/s by the header's index
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}


def container(data: bytes) -> Container:
    """Return the format of an encoded file by its first bytes; its extension is `bin` if it is unknown."""
    if data[:4] == b"caff" and data[28:32] == b"aac ":
        return _CAF_OF_AAC
    if data[:3] == b"ID3" and len(data) > 10:
        seven = data[6:10]  # 7 bits in each byte
        behind = 10 + sum((byte & 127) << shift for byte, shift in zip(seven, (21, 14, 7, 0), strict=True))
        if container(data[behind : behind + 2]) is _ADTS:
            return _ADTS
    for magic, at, kind in _KNOWN:
        if data[at : at + len(magic)] == magic:
            return kind
    if data[:1] == b"\xff" and len(data) > 1:
        if data[1] & 0xF6 == 0xF0:  # layer 0, which MPEG frames do not use
            return _ADTS
        if data[1] & 0xE0 == 0xE0:
            return _MPEG
    return _UNKNOWN


def mpeg_start(data: bytes) -> int | None:
    """Return the offset of MPEG audio (MP3), the first of four consecutive frames, or None."""
    for match in _SYNC.finditer(data, 0, _SEARCHED):
        at = match.start()
        for _ in range(_CHAIN):
            size = _mpeg_frame(data[at : at + 4])
            if not size:
                break
            at += size
        else:
            return match.start()
    return None


def _mpeg_frame(header: bytes) -> int:
    """Return the size in bytes of an MPEG frame by its header; 0 for other bytes."""
    if len(header) < 4 or header[0] != 0xFF or header[1] < 0xE0:
        return 0
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    index, step = header[2] >> 4, header[2] >> 2 & 3
    if version == 1 or layer == 4 or index in (0, 15) or step == 3:
        return 0
    rate = (44_100, 48_000, 32_000)[step] >> {3: 0, 2: 1, 0: 2}[version]
    bits = 1000 * _KBIT[version == 3, layer][index]
    padding = header[2] >> 1 & 1
    if layer == 1:
        return (12 * bits // rate + padding) * 4
    return (144 if layer == 2 or version == 3 else 72) * bits // rate + padding


#: A place in a file, the struct format of a number, and the number that belongs there.
Size = tuple[int, str, int]


def completed(data: bytes) -> bytes:
    """Return the file with unknown sizes in its headers filled in; any other file is unchanged.

    SoX, arecord, ffmpeg and interrupted recorders write 0 or an impossible size when they write to a pipe.
    The samples then extend to the end of the file.

    Raises:
        Truncated: a valid size extends beyond the end.
    """
    sizes = missing_sizes(data)
    if not sizes:
        return data
    filled = bytearray(data)
    for at, form, value in sizes:
        struct.pack_into(form, filled, at, value)
    return bytes(filled)


def missing_sizes(data: bytes | mmap.mmap) -> tuple[Size, ...]:
    """Return the sizes that `completed` fills in; none if the headers are complete.

    Only headers and the last pages are read, so the file may be mapped instead of loaded.

    Raises:
        Truncated: a valid size extends beyond the end.
    """
    if data[8:12] == b"WAVE" and data[:4] in (b"RIFF", b"RF64", b"BW64"):
        return _wav(data)
    if data[:16] == _W64:
        return _w64(data)
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(data)
    if data[:4] == b"caff":
        return _caf(data)
    if data[:4] == b".snd" and len(data) >= 24:
        offset, size = struct.unpack_from(">II", data, 4)
        if size == 0 and len(data) > offset:
            return ((8, ">I", 0xFFFF_FFFF),)
        if size < _OPEN and offset + size > len(data):
            raise Truncated
    if data[4:8] == b"ftyp" and _mp4_cut_short(data):
        raise Truncated
    if data[:4] == b"fLaC" and len(data) >= 42:
        return _flac(data)
    if data[:4] == b"OggS" and _ogg_cut_short(data):
        raise Truncated
    return ()


def _wav(data: bytes) -> tuple[Size, ...]:
    wide = None  # offset of the 64-bit sizes of RF64
    at = 12
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        start = at + 8
        if name == b"ds64" and size >= 16 and start + 16 <= len(data):
            wide = start
        if name == b"data":
            left, limit = len(data) - start, _OPEN
            if wide is not None and size == 0xFFFF_FFFF:
                size, limit = struct.unpack_from("<Q", data, wide + 8)[0], _OPEN_64
            # A program that does not know the size may state one that a long file exceeds.
            stated = 0 < size <= left and (size < limit or _only_chunks(data, start + size + size % 2))
            if stated or (size == 0 and _only_chunks(data, start)):
                return ()
            if 0 < size < limit:
                raise Truncated
            if wide is None:
                return ((4, "<I", min(len(data) - 8, _OPEN)), (at + 4, "<I", left))
            return ((wide, "<Q", len(data) - 8), (wide + 8, "<Q", left))
        at = start + size + size % 2
    promised = struct.unpack_from("<I", data, 4)[0]
    if promised < _OPEN and promised + 8 > len(data):  # the file ends before the data
        raise Truncated
    return ()


def _only_chunks(data: bytes, at: int) -> bool:
    """Return whether only complete RIFF chunks follow."""
    while at + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        if not re.fullmatch(rb"[A-Za-z0-9_ ]{4}", name):
            return False
        at += 8 + size + size % 2
    return at in (len(data), len(data) + 1)


def _w64(data: bytes) -> tuple[Size, ...]:
    at = 40
    while at + 24 <= len(data):
        size = struct.unpack_from("<Q", data, at + 16)[0]
        if data[at : at + 16] == _W64_DATA:
            left = len(data) - at
            if 24 < size <= left or left == 24:
                return ()
            if 24 < size < _OPEN_64:
                raise Truncated
            return ((16, "<Q", len(data)), (at + 16, "<Q", left))
        if not 24 <= size < _OPEN_64:
            return ()
        at += size + -size % 8
    raise Truncated


def _caf(data: bytes) -> tuple[Size, ...]:
    at = 8
    while at + 12 <= len(data):
        name, size = struct.unpack_from(">4sq", data, at)
        left = len(data) - at - 12
        if name == b"data":
            if size in (-1, 0) and left > 4:
                return ((at + 4, ">q", left),)
            if size > left:
                raise Truncated
            return ()
        if not 0 <= size < _OPEN_64:
            return ()
        at += 12 + size
    raise Truncated


def _aiff(data: bytes) -> tuple[Size, ...]:
    form = struct.unpack_from(">I", data, 4)[0]
    if 0 < form < _OPEN and form + 8 > len(data):
        raise Truncated
    at, comm = 12, None
    while at + 8 <= len(data):
        name, size = struct.unpack_from(">4sI", data, at)
        start, left = at + 8, len(data) - at - 8
        if name == b"COMM" and size >= 18 and left >= 18:
            comm = start
        if name == b"SSND":
            if comm is None or 8 < size <= left or left <= 8 or 8 < size < _OPEN:
                return ()
            channels, bits = struct.unpack_from(">h4xh", data, comm)
            frame = max(1, channels * -(-bits // 8))
            sizes = ((4, ">I", len(data) - 8), (comm + 2, ">I", (left - 8) // frame), (at + 4, ">I", left))
            return sizes
        at = start + size + size % 2
    return ()


def _mp4_cut_short(data: bytes) -> bool:
    at = 0
    while at + 8 <= len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        if size == 0:  # to the end
            return False
        if size == 1:
            size = int.from_bytes(data[at + 8 : at + 16], "big")
        if size < 8:
            return False  # damaged; ffmpeg reports it
        at += size
    return at > len(data)


def _flac(data: bytes) -> tuple[Size, ...]:
    """Return the number of frames by the last block if STREAMINFO does not have it."""
    header = int.from_bytes(data[18:26], "big")
    if header & _FLAC_FRAMES:
        return ()
    at, last = 4, False
    while not last and at + 4 <= len(data):
        last, size = data[at] >= 0x80, int.from_bytes(data[at + 1 : at + 4], "big")
        at += 4 + size
    largest = int.from_bytes(data[10:12], "big")
    first, end = data[at : at + 2], len(data)
    while first in (b"\xff\xf8", b"\xff\xf9") and (end := data.rfind(first, at, end)) >= 0:
        length = _flac_end(data[end : end + 16] + bytes(16), largest)
        if length and data[end + 2] & 15 == data[at + 2] & 15:  # the same rate
            return ((18, ">Q", header | min(length, _FLAC_FRAMES)),)
    return ()


def _flac_end(block: bytes, largest: int) -> int:
    """Return the number of frames up to the end of the block with this header; 0 for other bytes."""
    if block[4] in range(0x80, 0xC0) or block[4] == 0xFF:
        return 0
    more = max(0, 7 - (block[4] ^ 0xFF).bit_length())  # bytes of the number, encoded like UTF-8
    number = block[4] & (0x7F if more == 0 else 0x3F >> more)
    for byte in block[5 : 5 + more]:
        number = number << 6 | byte & 0x3F
    at, code = 5 + more, block[2] >> 4
    if code in (6, 7):
        size = int.from_bytes(block[at : at + code - 5], "big") + 1
        at += code - 5
    else:
        size = {0: 0, 1: 192}.get(code) or (576 << code - 2 if code < 6 else 256 << code - 8)
    at += {12: 1, 13: 2, 14: 2}.get(block[2] & 15, 0)
    crc = 0
    for byte in block[:at]:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    if not code or crc != block[at]:
        return 0
    return (number if block[1] & 1 else number * largest) + size


def _ogg_cut_short(data: bytes) -> bool:
    at = data.rfind(b"OggS")
    if at + 27 > len(data):
        return True
    segments = data[at + 26]
    end = at + 27 + segments + sum(data[at + 27 : at + 27 + segments])
    last_page = data[at + 5] & 0x04
    return not last_page or end > len(data)
