"""The one exception that is meant for people."""


class UserError(Exception):
    """Something the user can mend; the message names the file, the field and the mend.

    The command line prints it without a traceback and exits with 1.
    """
