"""The errors a user can cause or mend; command lines print them as one line and exit."""


class TrtLaneError(Exception):
    """Something a user can mend: says what happened, what was expected, what to do next.

    `exit_status` is what a command line returns for it: 2 for a user's mistake.
    """

    exit_status = 2


class CheckFailedError(TrtLaneError):
    """The input was fine and the result is not good enough: a failed lint, audit or comparison."""

    exit_status = 1
