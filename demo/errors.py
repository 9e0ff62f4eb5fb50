"""The one error that the try-out shows to a person."""


class TryoutError(Exception):
    """Something stands in the way. The message says what, and what to do next."""
