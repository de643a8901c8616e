"""The experiments: their tables, the numbers derived from the tables, and the link to Pax."""
