"""Mistakes of the person at the keyboard."""


class UserError(Exception):
    """The message is a sentence for people that says what to do; shown without a traceback, exit status 2."""
