"""Data: from raw text to prepared corpora, and from their rows to Pax batches."""

SPLITS = TRAIN, VALIDATION = "train", "validation"
