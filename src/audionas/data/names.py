"""Clean names of invisible characters, and compare them as a reader would."""

from __future__ import annotations

import unicodedata

# Zero-width spaces and joiners, direction marks, soft hyphen, byte-order mark.
_INVISIBLE = "\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"
_BLANK = _INVISIBLE + "".join(map(chr, [*range(0x21), 0x7F, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B)]))
_BLANK += "\u2028\u2029\u202f\u205f\u3000"
_NO_INVISIBLE = dict.fromkeys(map(ord, _INVISIBLE))


def clean(text: str) -> str:
    """Return the text in Unicode form NFC, stripped of blanks and invisible characters."""
    if text.isascii():
        return text.strip()
    return unicodedata.normalize("NFC", text).strip(_BLANK)


def comparable(text: str) -> str:
    """Return a form without differences in case, Unicode form, blanks and invisible characters."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text.translate(_NO_INVISIBLE))
    return " ".join(unicodedata.normalize("NFKC", text.casefold()).split())
