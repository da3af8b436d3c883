"""Charsets: in which one a text is, as its label says, and how it becomes UTF-8.

Only those are read that come with Python and that take as long as the text is: a peer makes up the names.
"""

from __future__ import annotations

import re
from functools import cache

UTF_8 = "utf-8"
_PARAMETER = re.compile(r";\s*charset\s*=\s*[\"']?([\w.:+-]{1,40})", re.IGNORECASE)
# What is in UTF-8 as it is.
_SAME = frozenset(("utf_8", "utf8", "us_ascii", "ascii", "u8", "utf", "ansi_x3.4_1968", "646", "us"))
# Ways of writing text that are no charsets: what they decode is longer, or takes the square of the time, or warns.
_NONE = frozenset(("idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"))


def charset_of(label: str) -> str | None:
    """The charset that a content type names in its parameters; None: it names none, UTF-8, or one not known here."""
    found = _PARAMETER.search(label)
    return None if found is None else known_charset(found[1])


def known_charset(name: str) -> str | None:
    """The charset of a name, as Python calls it; None where that is UTF-8, or nothing known here."""
    from encodings import normalize_encoding
    from encodings.aliases import aliases

    if not name.isascii():
        return None
    plain = normalize_encoding(name.lower())
    if plain in _SAME:
        return None
    full = aliases.get(plain, plain)
    return full if full in _modules() and full not in _SAME else None


def is_charset(name: str) -> bool:
    """Whether this names a charset, which some clients say where others say how a body is compressed."""
    return name.strip().lower().replace("-", "_") in _SAME or known_charset(name.strip()) is not None


def to_utf8(body: bytes, charset: str) -> bytes:
    """A text in another charset, in UTF-8.

    Raises:
        UnicodeError: it is none in that charset.
    """
    return body.decode(charset).removeprefix("\ufeff").encode()


@cache
def _modules() -> frozenset[str]:
    """The charsets that come with Python; looked up at the first label that names another one than UTF-8."""
    import codecs
    import encodings
    from pkgutil import iter_modules

    def is_of_text(name: str) -> bool:
        try:
            return codecs.lookup(name)._is_text_encoding
        except LookupError:  # what stands there beside the charsets: `aliases`, and from Python 3.14 on what some share
            return False

    names = {module.name for module in iter_modules(encodings.__path__)} - _NONE
    return frozenset(filter(is_of_text, names))
