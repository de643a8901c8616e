"""Checks of the Python environment and the identity of the running code.

Imports only the standard library, so that it works in a broken environment.
"""

from codegen_pax.environment.diagnosis import Finding, diagnose

__all__ = ["Finding", "diagnose"]
