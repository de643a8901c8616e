"""Corpora: where text comes from, and how documents become the rows a model reads."""
