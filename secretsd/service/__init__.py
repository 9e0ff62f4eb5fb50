"""Authorise, audit, act: the daemon's decisions, in one readable place."""

from secretsd.service.answers import Answered, KeySet, ReadResult, Selector
from secretsd.service.core import BusState, BusStatus, Core, NoBus
from secretsd.service.service import Service

__all__ = ["Answered", "BusState", "BusStatus", "Core", "KeySet", "NoBus", "ReadResult", "Selector", "Service"]
