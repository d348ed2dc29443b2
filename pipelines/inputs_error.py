"""The errors that end a command with one line: what a user named and cannot be read, and a run that
failed."""


class InputError(ValueError):
    """What the user named cannot be read; the message says why and what to do."""


class RunFailed(RuntimeError):
    """The work itself failed, by no fault of what was named; the message says where."""
