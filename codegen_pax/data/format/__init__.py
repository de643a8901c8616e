"""The format of a prepared corpus: documents, manifest, rows in TFRecords, provenance of a row."""
