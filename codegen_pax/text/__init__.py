"""Text: the two vocabularies and the prompt formats."""
