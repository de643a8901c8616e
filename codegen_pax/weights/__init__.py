"""Conversion of weights between Pax, Hugging Face and jaxformer."""
