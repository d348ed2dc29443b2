"""The error for what a user named and cannot be read."""


class InputError(ValueError):
    """What the user named cannot be read; the message says why and what to do."""
