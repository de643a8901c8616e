"""Why documents are dropped or changed: language, licence, filters, secrets, copies, benchmarks."""
