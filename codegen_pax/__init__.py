"""CodeGen on Pax: how it works. What is run is in `experiments`, what is read in `tasks`."""
