r"""Names and messages from raw files and stores, as a terminal or a page may show them: as text, not as commands.

A terminal obeys control characters (ECMA-48), and characters that turn the direction of text hide what a name is
(Unicode UAX 9).
"""

from __future__ import annotations

import unicodedata

LINE_BREAKS = ("Zl", "Zp")
"""Categories of Unicode's own line and paragraph separators."""


def printable(text: str, keep: str = "") -> str:
    r"""Write every character that shows nothing by itself as Python writes it, such as `\x1b`, `\u202e` or `\udcff`.

    These are Unicode's category C (controls, directions, private and lone surrogates), which no shape id may hold
    either, and line breaks.

    Parameters
    ----------
    text
        Any text.
    keep
        Characters that stay, such as line ends.

    Returns
    -------
    str
        Text that every terminal shows and UTF-8 can hold. Printable text is itself.
    """
    if text.isprintable():
        return text
    return "".join(char if char in keep or _shows(char) else _escaped(char) for char in text)


def _shows(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] != "C" and category not in LINE_BREAKS


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
