"""What the verbs share: entry point, arguments, descriptions, terminal output, training."""
