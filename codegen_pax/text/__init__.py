"""The two vocabularies and the instruction format."""
