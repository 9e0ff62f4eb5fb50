"""What a change that was waited for is answered with, also where its secret was changed or deleted meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from secretsd.errors import Problem
from secretsd.model import Metadata
from secretsd.rotation.announce import metadata
from secretsd.rotation.pending import brought, in_way
from secretsd.service.receipts import Carried
from secretsd.vault.document import Document, SecretRecord


def outcome(names: Sequence[str], carried: Carried, now: Document, now_ms: int) -> list[Metadata]:
    """Return the metadata of what the request made of all `names`, as it is `now`; graces end at `now_ms`.

    Never that of a version which another request made: an `If-Match` on it would overwrite that one unseen. Raises
    Problem `not-found` where one of the names is gone, `version-not-found` where what was made of it is, which say
    what became of each: a rotation that was under way is dropped with its secret, so an answer without the name would
    pass for success.
    """
    kids = carried.kids(names)
    found = {name: _made(name, now.secrets[name], kids[name], now_ms) for name in names if name in now.secrets}
    made = [one for one in found.values() if one is not None]
    if len(made) == len(names):
        return made
    said = [
        *_of_deleted([name for name in names if name not in found], carried),
        *_of_replaced([name for name, one in found.items() if one is None], kids),
    ]
    if made:
        said.append("The other names of the request were changed or are on their way: read their metadata.")
    slug = "not-found" if len(found) < len(names) else "version-not-found"
    raise Problem(slug, " ".join(said), position=now.position)


def _made(name: str, record: SecretRecord, kid: str | None, now_ms: int) -> Metadata | None:
    if kid == brought(record).kid:
        return metadata(name, record, now_ms)
    for version in record.versions:
        if version.kid == kid and (version is record.current or (version.grace_until or 0) > now_ms):
            return metadata(name, record, now_ms, version)
    return None


def _of_deleted(gone: Sequence[str], carried: Carried) -> list[str]:
    committed = carried.document.secrets
    # Where the request was carried out before, its document is no commit of its own, and what is gone isn't in it.
    before = [name for name in gone if name not in committed]
    made = [name for name in gone if name in committed and in_way(committed[name]) is None]
    dropped = [name for name in gone if name not in made and name not in before]
    said = []
    if before:
        said.append(
            f"{', '.join(before)}: the request was carried out before, and the secret has been deleted since; what the "
            "request made went with it."
        )
    if dropped:
        said.append(
            f"{', '.join(dropped)}: deleted while the rotation was under way; it was dropped with the secret unless it "
            "was through before."
        )
    if made:
        said.append(f"{', '.join(made)}: the change was made, and the secret has been deleted since.")
    return said


def _of_replaced(names: Sequence[str], kids: dict[str, str | None]) -> list[str]:
    told = [name for name in names if kids[name] is not None]
    untold = [name for name in names if kids[name] is None]
    said = []
    if told:
        said.append(
            f"{', '.join(told)}: the request was carried out, and what it made has been replaced or given up since and "
            "can't be read any more; read the current version."
        )
    if untold:
        said.append(
            f"{', '.join(untold)}: the request was carried out, and the secret has changed since; which version the "
            "request made is no longer known: read the current one."
        )
    return said
