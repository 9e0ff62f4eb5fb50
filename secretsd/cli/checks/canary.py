"""Whether a stranger at the broker may speak under the prefix, or listen.

A canary is a message without content, not retained, on a topic with a random name that nobody listens to: of a kind of
its own, of a secret's and of the audit's, as somebody may have rights on one of these only. It is tried from both
sides: the stranger publishes while the daemon's own user listens, and the other way round. Each time the daemon's user
says something afterwards too: once that has come, what came before it would have come as well.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from secretsd_bus import BusError, BusRejected, BusSettings

from secretsd.cli.checks.context import Context
from secretsd.cli.checks.finding import Check, Finding, Skip, combined, failure, listed, ok, plural, warning
from secretsd.cli.checks.listening import GRACE_SECS, canary_topic, connected
from secretsd.cli.mosquitto.plan import PASSWORDS
from secretsd.policy import Policy

FOR_EVERYBODY: Final = ("checkpoint/", "status/", "keys/", "audit/audit/key_rotated")
"""What every user of the broker may read (mosquitto/acl): no secret's name is in it."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a stranger could do. `refused`: why the broker doesn't let it in at all."""

    refused: str | None = None
    listening_works: bool = True
    """Whether the daemon's own user hears what it says there: without that nothing is proven."""
    wrote: bool = False
    read: tuple[str, ...] = ()
    """The topics under the prefix, without it, on which the stranger heard something."""


def anonymous(context: Context) -> Finding:
    """See that without credentials nobody can write or read."""
    operator = context.broker
    return judge(asyncio.run(probe(operator, context.anonymous)), "a client without credentials", "anonymous")


def foreign(context: Context) -> Finding:
    """See that another user of the broker can neither write nor read what isn't everybody's."""
    operator = context.broker
    if context.foreign is None:
        raise Skip("no other user of the broker is named: --foreign-user NAME --foreign-password-file FILE")
    name = context.foreign.name
    stranger = replace(context.anonymous, username=name, password_file=context.foreign.password_file)
    outcome = asyncio.run(probe(operator, stranger))
    if outcome.refused is not None:
        raise Skip(f"the broker doesn't let {name} in, so nothing is proven: {outcome.refused}")
    return judge(outcome, f"the user {name}", name)


def clients(context: Context) -> Finding:
    """See that each client whose password `broker setup` keeps here writes nothing and reads what the policy says."""
    operator, policy, folder = context.broker, context.policy, context.config.source.parent / PASSWORDS
    files = {name: folder / f"{name}.password" for name in policy.clients}
    known = {name: file for name, file in files.items() if file.exists()}
    if not known:
        raise Skip(f"no client's password for the broker lies in {folder}; `secretsctl broker setup` makes them")
    findings = []
    for name, file in known.items():
        stranger = replace(context.anonymous, username=name, password_file=file)
        finding = judge_client(asyncio.run(probe(operator, stranger)), name, policy)
        if finding.status != "ok":
            findings.append(finding)
    return combined(f"{plural(len(known), 'client')} can write nothing, and read what the policy lets them", findings)


def judge_client(outcome: Outcome, name: str, policy: Policy) -> Finding:
    """Judge what a client of the policy could do at the broker."""
    fixes = ("secretsctl broker setup", "systemctl reload mosquitto")
    if outcome.refused is not None:
        return warning(f"the broker doesn't let {name} in with its password: {outcome.refused}", *fixes)
    if not outcome.listening_works:
        return judge(outcome, name, name)
    can = ["write under the prefix"] if outcome.wrote else []
    beyond = [topic for topic in outcome.read if not _may_hear(policy, name, topic)]
    if beyond:
        can.append(f"read what the policy doesn't let it ({listed(_kinds(beyond))})")
    return failure(f"{name} can {' and '.join(can)}", *fixes) if can else ok(f"{name} is kept to its own")


def _may_hear(policy: Policy, client: str, topic: str) -> bool:
    """Tell whether the policy lets a client hear a topic, which is without the prefix here."""
    if topic.startswith(FOR_EVERYBODY):
        return True
    match topic.split("/"):
        case ["secret", name, _]:
            return policy.may(client, "read", name)
        case ["audit", *_]:
            return policy.may(client, "audit")
    return False


async def probe(operator: BusSettings, stranger: BusSettings) -> Outcome:
    """Let a stranger try. Raises BusError when the operator's connection fails."""
    prefix = operator.topic_prefix
    canaries, songs = _canaries(prefix), _canaries(prefix)
    async with connected(operator) as ours:
        await ours.listen([f"{prefix}/doctor/canary/+", *canaries])
        first = canary_topic(prefix)
        await ours.say(first)
        if not await ours.hears(first):
            return Outcome(listening_works=False)
        try:
            async with connected(stranger) as theirs:
                await theirs.listen([f"{prefix}/#"])
                for canary in canaries:
                    await theirs.say(canary)
                last = canary_topic(prefix)
                for topic in (*songs, last):
                    await ours.say(topic)
                await ours.hears(last)
                await asyncio.sleep(GRACE_SECS)
                heard = {message.topic.removeprefix(f"{prefix}/") for message in theirs.heard}
        except BusRejected as error:
            return Outcome(refused=str(error))
        except BusError as error:
            return Outcome(refused=f"it hangs up on it ({error})")
        wrote = any(message.topic in canaries for message in ours.heard)
        return Outcome(wrote=wrote, read=tuple(sorted(heard)))


def _canaries(prefix: str) -> list[str]:
    name = f"doctor-{secrets.token_hex(8)}"
    return [canary_topic(prefix), f"{prefix}/secret/{name}/canary", f"{prefix}/audit/doctor/{name}"]


def judge(outcome: Outcome, who: str, user: str) -> Finding:
    """Judge what a stranger could do. Nobody without a name may read anything; others what is everybody's."""
    if outcome.refused is not None:
        return ok(f"the broker doesn't let in {who}")
    if not outcome.listening_works:
        return warning(
            "the daemon's own user may not read what it writes under the prefix, so nothing can be proven",
            "give it both rights on the whole prefix in the broker's ACL (mosquitto/acl)",
        )
    named = user != "anonymous"
    read = [topic for topic in outcome.read if not (named and topic.startswith(FOR_EVERYBODY))]
    if named:
        fixes = (
            f"take the rights of {user} out of the broker's ACL (secretsctl broker setup --dry-run shows ours)",
            "systemctl reload mosquitto",
        )
    else:
        fixes = ("secretsctl broker setup   # passwords, ACL and allow_anonymous false", "systemctl restart mosquitto")
    can = ["write under the prefix"] if outcome.wrote else []
    if read:
        can.append(f"read under the prefix ({listed(_kinds(read))})")
    if can:
        return failure(f"{who} can {' and '.join(can)}", *fixes)
    allowed = ", save checkpoint, status and keys" if named and outcome.read else ""
    return ok(f"{who} can neither write under the prefix nor read it{allowed}")


def _kinds(topics: Sequence[str]) -> list[str]:
    """Return the first levels of the topics; `doctor` is named only where nothing else was heard."""
    kinds = sorted({topic.split("/")[0] for topic in topics} - {"doctor"})
    return [f"{kind}/…" for kind in kinds] or ["what is published there"]


CHECKS: Final = (
    Check("canary-anonymous", "Can nobody without credentials write under the prefix, or read it?", anonymous),
    Check("canary-foreign", "Can another user of the broker neither write there nor read?", foreign),
    Check("canary-clients", "Can each client write nothing there, and read only what the policy says?", clients),
)
