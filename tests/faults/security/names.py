"""Names that somebody chose to do harm, and a store in which everything has such a name."""

from __future__ import annotations

import json
from pathlib import Path

from tests.faults.security.forge import array_of, forge_members, forge_root, forge_text, log

NAMES = {
    "traversal": "../../../outside/x",
    "absolute": "/outside/x",
    "nul": "a\0b",
    "newlines": "a\nshapestore: done\r\n",
    "escapes": "\x1b]0;owned\x07\x1b[2J\x9b31m\x7f",
    "direction": "gnp.\u202eexe\u2066\u061c",
    "markup": "[/red][bold]x[link=file:///etc/passwd]:smile:",
    "html": "</td><script>alert(1)</script><img src=x onerror='alert(1)'>\"{{ 7 * 7 }}",
    "formula": "=cmd|' /C calc'!A0",
    "mathtext": r"$\undefined{$",
    "long": "x" * 4096,
}
"""Names that mean something to a file system, a terminal, a page, a spreadsheet or a drawing."""

TEXTS = (
    "shape_id",
    "source",
    "group",
    "source_sha256",
    "provenance/notes",
    "quarantine/message",
    "quarantine/shape_id",
)


def named(text: str, path: Path) -> None:
    """Give everything in a store that has a name this one."""
    for each in TEXTS:
        forge_text(path, each, text)
    forge_text(path, "provenance/traceback", f"Traceback:\n{text}")
    names = [f"{text}{number}" for number in range(3)]
    forge_root(
        path,
        lambda own: (
            own["codes"].update(split=names, category=names),
            own.update(source_kind=text),
            own["recipe"].update(name=text[:1000], description=text[:1000]),
            array_of(own, "pc_xyz").update(long_name=text, comment=text),
        ),
    )
    run = {"started": text, "host": text, "mode": text, "raw": text, "python": text, "machine": text}
    log(path, "runs", json.dumps([run | {"rows": 1, "seconds": 1.0, "quarantined": 0, "versions": {text: text}}]))
    about = {"finished": text, "level": text, "commit": text, "outcome": text}
    log(path, "validation", json.dumps(about | {"rows": 1, "checked": 1, "passed": True}))
    forge_members(path)
