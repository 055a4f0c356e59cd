"""The faults that end a command with one clear line."""


class UserError(Exception):
    """Wrong input: the message is one line that says what to do. Commands exit with status 2."""

    status = 2


class InstallError(Exception):
    """The environment is at fault: the message names the mend. Commands exit with status 3."""

    status = 3


class NotebookError(Exception):
    """A notebook stopped: the message is one line that says where. Commands exit with status 1."""

    status = 1
