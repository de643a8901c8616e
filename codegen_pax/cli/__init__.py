"""The `codegen-pax` command: one file a verb."""
