"""How the network learns: Adam with optax's arithmetic, gradients summed over micro-batches, and
the learner that joins them to a schedule. The numbers come from the caller.
"""
