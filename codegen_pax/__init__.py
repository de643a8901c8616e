"""CodeGen on Pax: the library that `experiments` and `tasks` are built on."""
