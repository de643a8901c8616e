"""What a prepared corpus is on disk: its rows, its manifest, and the way back to a document."""
