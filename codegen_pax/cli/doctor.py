"""`codegen-pax doctor`: what is wrong with this environment, how to mend it, and the settings."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import textwrap
from collections.abc import Mapping

from codegen_pax.environment import Finding, diagnose
from codegen_pax.errors import UserError
from codegen_pax.messages import printable
from experiments import settings

_NOT_SET = "not set"
_WIDTH = 100  # of a line of text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the verb."""
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")


def run(args: argparse.Namespace) -> int:
    """Prints every finding and every setting; returns 1 when one of them is an error."""
    findings = diagnose()
    variables = check_settings()
    if args.json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        for finding in variables:
            row = dataclasses.asdict(finding)
            if variable := _variable(finding.check):
                row |= {"default": variable.default, "description": variable.description}
            rows.append(row)
        print(json.dumps(rows, indent=2))
    else:
        # Plain text, since the packages that would draw a table may be broken.
        for finding in findings:
            print("\n".join(format_finding(finding)))
        print("settings, which are environment variables:")
        for finding in variables:
            print("\n".join(map(printable, format_setting(finding))))
        print(verdict([*findings, *variables]))
    return int(any(finding.status == "error" for finding in (*findings, *variables)))


def check_settings(environment: Mapping[str, str] = os.environ) -> list[Finding]:
    """Checks the CODEGEN_* variables.

    Returns:
        A finding for each variable of `experiments.settings`, set or not; and one for each other
        variable whose name begins with CODEGEN_, which a run would refuse.
    """
    known = {variable.name: variable for variable in settings.VARIABLES.values()}
    unknown = [name for name in environment if name.startswith(settings.PREFIX)]
    findings = []
    for name in dict.fromkeys([*known, *sorted(unknown)]):
        value = environment.get(name, "")
        expected = known[name].values if name in known else "no such variable"
        try:
            settings.from_environment({name: value} if name in environment else {})
        except UserError as error:
            mend = f"unset {name}, or correct it"
            findings.append(Finding(name, "error", value, expected, mend=mend, why=str(error)))
        else:
            findings.append(Finding(name, "ok", value or _NOT_SET, expected))
    return findings


def format_finding(finding: Finding) -> list[str]:
    """Returns the lines of a finding: one if all is well, otherwise also why and how to mend it."""
    start = f"{finding.status:<8} {finding.check:<18} "
    if finding.status == "ok":
        return [f"{start}{finding.found}"]
    more = (("why", finding.why), ("mend", finding.mend))
    return [
        f"{start}found {finding.found}, expected {finding.expected}",
        *(f"{'':<9}{name:<18} {text}" for name, text in more if text),
    ]


def format_setting(finding: Finding) -> list[str]:
    """Returns the lines of a setting: its value, and what it means."""
    variable = _variable(finding.check)
    if finding.status != "ok" or variable is None:
        return format_finding(finding)
    meaning = f"{variable.description} Values: {variable.values}. Default: {variable.default}."
    return [
        f"{finding.status:<8} {finding.check:<18} {finding.found}",
        *textwrap.wrap(
            meaning,
            _WIDTH,
            initial_indent=" " * 28,
            subsequent_indent=" " * 28,
            break_long_words=False,
            break_on_hyphens=False,
        ),
    ]


def verdict(findings: list[Finding]) -> str:
    """Returns the closing line."""
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    if not errors and not warnings:
        return "All is well."
    return f"Errors: {errors}; warnings: {warnings}."


def _variable(name: str) -> settings.Variable | None:
    return next((row for row in settings.VARIABLES.values() if row.name == name), None)
