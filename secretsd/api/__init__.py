"""HTTP: guards, routes, problems. `bind` comes before any file is touched, then `start` serves."""

from secretsd.api.listeners import Listeners, bind
from secretsd.api.server import Server, start

__all__ = ["Listeners", "Server", "bind", "start"]
