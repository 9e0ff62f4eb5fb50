"""Whether two settings name one file, or one of them a file that the daemon keeps for another. Pure but for links.

What is written beside vault, key and log has names made of theirs; whoever else had such a name would be overwritten.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from msgspec.structs import asdict

from secretsd import files
from secretsd.audit import logfiles
from secretsd.audit.linefile import PROBE_NAME
from secretsd.audit.pruned import PRUNED_NAME
from secretsd.audit.pruning import ASIDE_NAME
from secretsd.config import Config
from secretsd.consumers import statefile
from secretsd.daemon.firststart import StateFiles
from secretsd.daemon.recoveryfile import REPLACED_INFIX, record_path
from secretsd.errors import ConfigError
from secretsd.reserve import FILE_NAME

VAULT: Final = "paths.vault_path"
MASTER_KEY: Final = "paths.master_key_path"
AUDIT: Final = "paths.audit_path"
SOCKET: Final = "server.unix_socket_path"


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file or folder that the daemon makes, `for_` a setting: what that names itself, or something beside it."""

    path: Path
    for_: str
    itself: bool = False


def refuse_collisions(config: Config) -> None:
    """Return where each file has a name of its own, links and `..` followed.

    Raises ConfigError that names the settings at odds.
    """
    state = StateFiles(config)
    kept = [_Kept(files.entry(one.path), one.for_, one.itself) for one in _all_kept(state, config)]
    complaints: dict[frozenset[str], str] = {}
    for setting, path in _named(config):
        place = files.entry(path)
        for one in kept:
            if one.itself and one.for_ == setting:
                continue
            if one.path == place or one.path in place.parents:
                what = f"what {one.for_} names" if one.itself else f"a file that the daemon keeps for {one.for_}"
                where = "is" if one.path == place else f"lies in {one.path}, which is"
                complaints.setdefault(frozenset((setting, one.for_)), f"{setting}: {path} {where} {what}")
        for made_for, made in ((AUDIT, _is_of_log(state, place)), (MASTER_KEY, _is_of_key(state, place))):
            if made:
                said = f"{setting}: {path} has a name that is given to files of {made_for}"
                complaints.setdefault(frozenset((setting, made_for)), said)
    if complaints:
        told = (f"{complaint}; name another file" for complaint in complaints.values())
        raise ConfigError("\n  ".join([f"{config.source} can't be used; correct it and start again:", *told]))


def _named(config: Config) -> Iterator[tuple[str, Path]]:
    """Yield each setting that names a file."""
    for name in ("paths", "server", "security", "bus"):
        for key, value in asdict(getattr(config, name)).items():
            setting = f"{name}.{key}"
            if isinstance(value, Path) and (setting != SOCKET or config.server.allow_unix_socket):
                yield setting, value
    yield "--config", config.source


def _all_kept(state: StateFiles, config: Config) -> Iterator[_Kept]:
    """Yield everything that is made, with the temporary name under which a file is written."""
    if config.server.allow_unix_socket:
        yield _Kept(config.server.unix_socket_path, SOCKET, itself=True)
    for setting, (own, *others) in kept_for(state).items():
        yield _Kept(own, setting, itself=True)
        for other in (*others, *(path.with_name(path.name + files.TEMPORARY_SUFFIX) for path in (own, *others))):
            yield _Kept(other, setting)


def kept_for(state: StateFiles) -> dict[str, tuple[Path, ...]]:
    """Return, for each setting of `[paths]`, its file and then what is kept beside that."""
    return {
        VAULT: (
            state.vault,
            state.mark,
            state.cursor,
            state.lock,
            state.backup,
            state.restoring,
            state.vault_stage,
            state.vault.with_name(FILE_NAME),
        ),
        MASTER_KEY: (state.master_key, record_path(state)),
        AUDIT: (
            state.audit,
            state.sign_key,
            state.sign_pub,
            state.past_keys,
            statefile.beside(state.audit),
            state.audit_stage,
            *(state.audit.with_name(name) for name in (PRUNED_NAME, ASIDE_NAME, PROBE_NAME, FILE_NAME)),
        ),
    }


def _is_of_log(state: StateFiles, place: Path) -> bool:
    return logfiles.is_made_of(files.entry(state.audit), place)


def _is_of_key(state: StateFiles, place: Path) -> bool:
    key = files.entry(state.master_key)
    return place.parent == key.parent and place.name.startswith(key.name + REPLACED_INFIX)
