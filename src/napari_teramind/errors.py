"""Errors that a user can cause and mend."""


class UserError(Exception):
    """A mistake in what the user gave us, told in one sentence.

    The sentence says what is wrong, with which file or value, and what to do. The command line
    prints it and ends with exit code 2; the napari widgets show it as a notification. Neither
    shows a traceback.
    """


class JobError(Exception):
    """A failure that is told in one sentence and is no mistake of whoever started the job.

    The sentence says what happened and what to do then. The command line prints it and ends with
    exit code 1.
    """
