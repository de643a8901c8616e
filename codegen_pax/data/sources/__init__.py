"""Raw files, as people have them, to documents: found, split, and read in bounded memory."""
