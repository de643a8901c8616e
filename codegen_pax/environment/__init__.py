"""The Python environment: what the project needs of it, and what is wrong with this one.

Imports the standard library alone, so that it still works where little else does.
"""

from codegen_pax.environment.diagnosis import Finding, diagnose

__all__ = ["Finding", "diagnose"]
