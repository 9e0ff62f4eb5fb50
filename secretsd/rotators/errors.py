"""How a step of a rotation fails: in a way that may pass, or for good."""

from __future__ import annotations

from secretsd.errors import SecretsdError


class RotatorError(SecretsdError):
    """A step failed. `reason` says what to do and never holds a value; the engine scrubs it all the same."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Retryable(RotatorError):
    """It may work later: the other end is down, busy, or slow. Tried again soon, then more slowly."""


class Refused(RotatorError):
    """Asking again changes nothing: a wrong setting, a missing right. Reported at once, tried again at a slow pace."""
