"""CodeGen on Pax: the library under `experiments` (what is run) and `tasks` (what is read)."""
