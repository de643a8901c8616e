"""What is run: the tables of experiments, what follows from them, and how they reach Pax."""
