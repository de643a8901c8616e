"""What a run needs and what the hardware gives, before anything runs."""
