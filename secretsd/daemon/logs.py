"""The daemon's own log, on standard error: text, or one JSON object a line. Values and tokens never come here."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from typing import Final

from secretsd.config import Logging

_LEVELS: Final = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "off": logging.CRITICAL + 1,
}
_TEXT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": _rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


class _TextFormatter(logging.Formatter):
    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002 — logging's
        return _rfc3339(record.created)


def set_up(settings: Logging) -> None:
    """Send what is logged at `settings.level` and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    # Under systemd the journal keeps the time itself.
    text = _TEXT if "JOURNAL_STREAM" not in os.environ else _TEXT.replace("%(asctime)s ", "")
    handler.setFormatter(_JsonFormatter() if settings.json else _TextFormatter(text))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("secretsd").setLevel(_LEVELS[settings.level])
    if settings.level in {"error", "off"}:
        root.setLevel(_LEVELS[settings.level])


def let_go() -> None:
    """Drop what standard error no longer takes: at the interpreter's end it would make the exit status 120."""
    try:
        sys.stderr.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


def _rfc3339(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"
