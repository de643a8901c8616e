"""Optimizer, gradient accumulation and learner; all hyperparameters come from the caller."""
