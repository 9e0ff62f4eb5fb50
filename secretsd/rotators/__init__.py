"""Rotators bring a new value to a secret's other end; they are ours or another distribution's (docs/rotators.md)."""

from secretsd.rotators.errors import Refused, Retryable, RotatorError
from secretsd.rotators.interface import Order, Rotator, RotatorConfig, Seconds, SecretName
from secretsd.rotators.registry import ENTRY_POINTS, Misconfigured, RotatorRule, configure, kinds

__all__ = [
    "ENTRY_POINTS",
    "Misconfigured",
    "Order",
    "Refused",
    "Retryable",
    "Rotator",
    "RotatorConfig",
    "RotatorError",
    "RotatorRule",
    "Seconds",
    "SecretName",
    "configure",
    "kinds",
]
