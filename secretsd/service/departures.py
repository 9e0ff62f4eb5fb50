"""The first step of a rotation that reaches the other end: its value is sealed in the journal, and nobody told yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Literal

from msgspec import UnsetType
from msgspec.structs import replace

from secretsd.crypto.sensitive import Sensitive
from secretsd.errors import Problem
from secretsd.model import MAX_VALUE_BYTES, Encoding
from secretsd.policy import SecretSettings
from secretsd.rotation.announce import SCHEDULE, Announcer, Cause, clean_reason
from secretsd.rotation.pending import asked_again, begun, cancelled, dropped, in_way, tidying
from secretsd.rotators import Refused, Rotator, RotatorRule
from secretsd.rotators.scrub import scrubbed
from secretsd.vault.document import OwedLine, Pending, SecretRecord, VersionRecord
from secretsd.vault.keys import new_id
from secretsd.vault.vault import Vault

Value = tuple[Sensitive, Encoding]

FOREIGN: Final = (Exception, SystemExit)
"""What another distribution's code can raise; none of it may end the daemon, or the schedule."""

NO_ROTATOR: Final = (
    "A rotation is under way, and the policy names no rotator for this secret any more: put the rule back, or cancel "
    "the rotation with DELETE /secret/{name}/rotation, which leaves the other end with what it has."
)
_OTHER_VALUE: Final = (
    "A rotation to another value is under way, and the other end may have that one already. Wait until it is through, "
    "or cancel it with DELETE /secret/{name}/rotation."
)
_IN_USE: Final = (
    "value: it is of the account in use, whose password would change at once and leave no grace to the current login: "
    '{give}, or say "urgent": true to cut that off.'
)


class Departures:
    """Drafts the begin of rotations. `generated` makes a value of a secret's type, `settings` says how it is kept."""

    def __init__(
        self,
        vault: Vault,
        generated: Callable[[str, SecretRecord], Value],
        settings: Callable[[str, SecretRecord], SecretSettings],
    ) -> None:
        self._vault = vault
        self._generated = generated
        self._settings = settings

    def depart(
        self,
        announcer: Announcer,
        name: str,
        record: SecretRecord,
        rule: RotatorRule,
        value: Value | None,
        generation: int,
        asked_ms: int | UnsetType | None,
        verb: Literal["rotated", "updated"],
        cause: Cause,
        now_ms: int,
    ) -> tuple[SecretRecord, list[OwedLine]]:
        """Return the record with a new value under way, `value` or a generated one, and the events of that.

        One that is under way already is asked for again, with its own token and value, and the grace `asked_ms` where
        one is; one that only tidies up is given up, which its own event tells. Raises Problem
        `rotation-pending` where `value` is another, `invalid-request` where the other end can't take it, or where
        it would end the current login at once and isn't urgent.
        """
        under_way = in_way(record)
        if under_way is not None:
            if value is not None and self._vault.open(name, under_way.version) != value[0]:
                raise Problem("rotation-pending", _OTHER_VALUE)
            after = asked_again(record, cause, now_ms, generation, asked_ms)
            promises = not (isinstance(asked_ms, UnsetType) or asked_ms == 0 or under_way.urgent or cause.urgent)
            if promises and under_way.grace_ms == 0:
                # Nothing was promised to the current login when this began.
                self._in_turn(name, record, rule.build(), self._vault.open(name, under_way.version))
            return after, [announcer.changed("rotation_started", name, after, cause)]
        rotator = rule.build()
        grace_ms = self._settings(name, record).grace_ms if isinstance(asked_ms, UnsetType) else asked_ms
        if value is None:
            value = self._shaped(name, record, rotator, lenient=cause.client == SCHEDULE)
        else:
            _checked(rotator, value[0])
            if not (cause.urgent or grace_ms == 0):
                self._in_turn(name, record, rotator, value[0])
        version = self._vault.seal(name, record.current.version + 1, *value, now_ms)
        displaced = tuple(kept for kept in record.in_grace if self._displaced(name, kept, rotator, value[0]))
        pending = Pending(
            version=version,
            token=new_id(),
            step="set",
            verb=verb,
            client=cause.client,
            reason=cause.reason,
            urgent=cause.urgent,
            grace_ms=grace_ms,
            attempts=0,
            due_at=now_ms,
        )
        after = begun(record, pending, displaced, generation)
        over = Cause(SCHEDULE, "the other end keeps it no longer")
        return after, [
            *_given_up(announcer, name, record, cause.client, "another rotation began", generation),
            announcer.changed("rotation_started", name, after, cause),
            *(announcer.retired(name, after, version, over) for version in displaced),
        ]

    def _shaped(self, name: str, record: SecretRecord, rotator: Rotator[Any], *, lenient: bool) -> Value:
        """Return a generated value the way the rotator wants it.

        The schedule has nobody to refuse to: with `lenient` what can't be shaped is tried as it is, so that the step
        `set` fails, which is reported.
        """
        generated, encoding = self._generated(name, record)
        current = self._vault.open(name, record.current)
        try:
            return _sound(rotator.shape(generated, current))
        except FOREIGN as error:
            if lenient:
                return generated, encoding
            raise _refused(error, generated, current) from None

    def _in_turn(self, name: str, record: SecretRecord, rotator: Rotator[Any], new: Sensitive) -> None:
        """Refuse `new` where the current login would be dead with it, though its grace says that it works."""
        if not self._displaced(name, record.current, rotator, new):
            return
        current = self._vault.open(name, record.current)
        try:
            account = rotator.next_account(current)
        except FOREIGN as error:
            raise _refused(error, new, current) from None
        turn = "another account's login" if account is None else f"a login of {account}, whose turn it is"
        reason = scrubbed(f"give {turn}", (new, current))
        raise Problem("invalid-request", _IN_USE.format(give=reason))

    def _displaced(self, name: str, kept: VersionRecord, rotator: Rotator[Any], new: Sensitive) -> bool:
        try:
            return rotator.displaces(self._vault.open(name, kept), new)
        except FOREIGN:  # a version too many in grace does no harm
            return False


def called_off(
    announcer: Announcer, name: str, record: SecretRecord, client: str, now_ms: int, generation: int
) -> tuple[SecretRecord, list[OwedLine]]:
    """Return the record whose rotation is cancelled, and the event: it is undone, or where current, not tidied up."""
    events = _given_up(announcer, name, record, client, "cancelled", generation)
    if events:
        return dropped(replace(record, generation=generation)), events
    cause = Cause(client, "cancelled")
    after = cancelled(record, cause, now_ms, generation)
    return after, [announcer.rotation_failed(name, after, cause)]


def _given_up(
    announcer: Announcer, name: str, record: SecretRecord, client: str, why: str, generation: int
) -> list[OwedLine]:
    """Return the event of a tidying up at the other end that is given up; none where there is none left to do."""
    pending = tidying(record)
    if pending is None:
        return []
    last = "" if pending.failure is None else f"; it failed last for: {pending.failure}"
    reason = clean_reason(f"tidying up after version {pending.version.version} was given up: {why}{last}")
    return [announcer.rotation_failed(name, replace(record, generation=generation), Cause(client, reason))]


def _checked(rotator: Rotator[Any], value: Sensitive) -> None:
    try:
        rotator.check(value)
    except FOREIGN as error:
        raise _refused(error, value) from None


def _sound(made: object) -> Value:
    """Return what a rotator has shaped, where the vault can keep it. Raises Refused."""
    if not isinstance(made, Sensitive) or not 0 < len(made.reveal()) <= MAX_VALUE_BYTES:
        raise Refused(f"the rotator shaped no value of 1 to {MAX_VALUE_BYTES} bytes: repair the rotator")
    try:
        made.reveal().decode()
    except UnicodeDecodeError:
        return made, "base64"
    return made, "utf-8"


def _refused(error: BaseException, *values: Sensitive) -> Problem:
    reason = error.reason if isinstance(error, Refused) else f"the rotator can't use it ({type(error).__name__})"
    return Problem("invalid-request", f"value: {scrubbed(reason, values)}.")
