"""What a change that was waited for is answered with, also where its secret was deleted meanwhile."""

from __future__ import annotations

from collections.abc import Sequence

from secretsd.errors import Problem
from secretsd.model import Metadata
from secretsd.rotation.announce import metadata
from secretsd.rotation.pending import in_way
from secretsd.vault.document import Document


def outcome(names: Sequence[str], committed: Document, now: Document, now_ms: int) -> list[Metadata]:
    """Return the metadata of all `names`, which were changed with `committed`, as they are `now`.

    Raises Problem `not-found` where one of them is gone, which says what became of each: a rotation that was under way
    is dropped with its secret, so an answer without the name would pass for success. `committed` is the document in
    force where an earlier request with the same Idempotency-Key made the change.
    """
    gone = [name for name in names if name not in now.secrets]
    if not gone:
        return [metadata(name, now.secrets[name], now_ms) for name in names]
    # Where the request was carried out before, `committed` is no commit of its own, and what is gone isn't in it.
    before = [name for name in gone if name not in committed.secrets]
    made = [name for name in gone if name in committed.secrets and in_way(committed.secrets[name]) is None]
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
    if len(gone) < len(names):
        said.append("The other names of the request were changed or are on their way: read their metadata.")
    raise Problem("not-found", " ".join(said), position=now.position)
