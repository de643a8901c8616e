"""Weights between Pax, Hugging Face and jaxformer."""
