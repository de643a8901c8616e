"""What the hardware gives, known before anything runs."""
