"""Say what is wrong with this environment, and how to mend it."""

import argparse
import dataclasses
import json

from codegen_pax.environment import Finding, diagnose

HELP = "say what is wrong with this environment, and how to mend it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print a list of objects instead")


def run(args: argparse.Namespace) -> int:
    """Prints every finding; returns 1 when one of them is an error."""
    findings = diagnose()
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        # Plain text: the packages that would draw a table may be what is broken.
        for finding in findings:
            print("\n".join(lines(finding)))
        print(verdict(findings))
    return int(any(finding.status == "error" for finding in findings))


def lines(finding: Finding) -> list[str]:
    """Returns a finding as it is shown: one line when all is well, else why and the cure too."""
    start = f"{finding.status:<8} {finding.check:<18} "
    if finding.status == "ok":
        return [f"{start}{finding.found}"]
    more = (("why", finding.why), ("mend", finding.mend))
    return [
        f"{start}found {finding.found}, wanted {finding.wanted}",
        *(f"{'':<9}{name:<18} {text}" for name, text in more if text),
    ]


def verdict(findings: list[Finding]) -> str:
    """Returns the closing line."""
    errors = sum(finding.status == "error" for finding in findings)
    warnings = sum(finding.status == "warning" for finding in findings)
    if not errors and not warnings:
        return "All is well."
    return f"Errors: {errors}; warnings: {warnings}."
