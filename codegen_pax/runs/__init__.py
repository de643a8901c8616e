"""Runs the stock Pax binary, and reads, checks and summarises the files of a run."""
