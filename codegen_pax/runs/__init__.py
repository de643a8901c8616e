"""Running the stock Pax binary, and telling what a run came to."""
