"""What stands retained on the broker: which states are due to be published anew, and the checkpoint. No I/O."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

STATUS_REST_SECONDS: Final = 5.0


class RetainedQueue:
    """Names whose state is due, changed ones before those that are merely repeated, and whether the checkpoint is."""

    def __init__(self) -> None:
        self._changed: dict[str, None] = {}
        self._repeated: dict[str, None] = {}
        self.status_due = False
        """Whether something else stands in the place of our `online`."""
        self._status_from = float("-inf")
        self.checkpoint_due = False
        self.checkpoint_overdue = False
        """Whether its interval is over: then it goes before everything, or clients think the broker silent."""
        self.held = False
        """Whether nothing may be signed now: the key was rotated, and the next connection has the new one."""

    def changed(self, names: Iterable[str]) -> None:
        """Note changed states; the checkpoint has to follow at once."""
        for name in names:
            self._repeated.pop(name, None)
            self._changed[name] = None
        self.checkpoint_due = True

    def repeat(self, names: Iterable[str]) -> None:
        """Note states that have to be published anew though nothing changed."""
        for name in names:
            if name not in self._changed:
                self._repeated[name] = None

    def take_changed(self) -> str | None:
        """Return a name whose changed state is due."""
        return self._take(self._changed)

    def take_repeated(self) -> str | None:
        """Return a name whose state is to be repeated."""
        return self._take(self._repeated)

    def take_status(self, now_seconds: float) -> bool:
        """Tell whether the status has to be said again; only so often, whoever else writes there."""
        if self.held or not self.status_due or now_seconds < self._status_from:
            return False
        self.status_due, self._status_from = False, now_seconds + STATUS_REST_SECONDS
        return True

    def take_checkpoint(self, *, overdue: bool) -> bool:
        """Tell whether the checkpoint is due: because its interval is over, or after a change."""
        due = self.checkpoint_overdue if overdue else self.checkpoint_due
        if self.held or not due:
            return False
        self.checkpoint_due = self.checkpoint_overdue = False
        return True

    def forget(self) -> None:
        """Drop everything: the connection is gone, and the next one repeats all."""
        self._changed.clear()
        self._repeated.clear()
        self.status_due = self.checkpoint_due = self.checkpoint_overdue = False

    def _take(self, names: dict[str, None]) -> str | None:
        if self.held:
            return None
        for name in names:
            del names[name]
            return name
        return None
