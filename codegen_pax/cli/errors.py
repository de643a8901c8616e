"""What a verb raises when the person, not the program, has something to mend."""


class UsageError(Exception):
    """The command was called wrongly: one line, and exit status 2."""
