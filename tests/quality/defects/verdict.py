"""What `shapestore validate` says of a store, and what the suite asks of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from shapestore.cli.main import app
from shapestore.quality.finding import Finding
from shapestore.quality.result import Validation


@dataclass(frozen=True)
class Verdict:
    """One run of the command line at level full."""

    code: int
    """Exit code."""
    result: Validation

    def of(self, check: str, severity: str = "error") -> list[Finding]:
        """Findings of one check and severity."""
        return [each for each in self.result.findings if (each.check, each.severity) == (check, severity)]

    def __str__(self) -> str:
        found = (f"{each.severity} {each.check} row {each.row}: {each.message}" for each in self.result.findings)
        return "\n".join((f"exit {self.code}, {len(self.result.findings)} findings", *found))


def examine(store: Path, raw: Path | None = None) -> Verdict:
    """Validate as a user does, in this process."""
    command = ["validate", str(store), "--level", "full", "--workers", "0", "--json"]
    done = CliRunner().invoke(app, command + (["--raw", str(raw)] if raw else []), catch_exceptions=False)
    return Verdict(done.exit_code, Validation.model_validate_json(done.stdout))


def assert_sound(store: Path, raw: Path | None = None) -> None:
    """Nothing at all is found: no error, no warning."""
    verdict = examine(store, raw)
    assert not verdict.result.findings, str(verdict)
    assert verdict.code == 0
    assert verdict.result.checked == verdict.result.rows > 0


def assert_caught(verdict: Verdict, *checks: str, rows: Iterable[int] | None = None) -> None:
    """Each of the checks reports an error; of `rows`, each of the checks names every one, and no check any other."""
    for check in checks:
        errors = verdict.of(check)
        assert errors, f"{check} finds no error; {verdict}"
        if rows is not None:
            assert {each.row for each in errors if each.row is not None} == set(rows), str(verdict)
    if rows is not None:
        strays = {each.row for each in verdict.result.findings if each.row is not None} - set(rows)
        assert not strays, f"sound rows {sorted(strays)} are accused; {verdict}"
    assert verdict.code == 3
