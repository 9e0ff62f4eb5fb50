"""Whether this policy is enough for where the daemon listens."""

from __future__ import annotations

from secretsd.config import Config
from secretsd.errors import PolicyError
from secretsd.policy.rules import Policy


def check_exposure(config: Config, policy: Policy) -> None:
    """Raise PolicyError while a client could pose as another where that isn't accepted.

    With `require_client_auth`, and on an address that other machines reach, each client needs a proof of the
    policy: without one its name in a header is all that it takes.
    """
    unproven = [name for name, rule in policy.clients.items() if not rule.auth]
    if not unproven:
        return
    who = ", ".join(unproven[:10]) + (", …" if len(unproven) > 10 else "")
    remedy = f"give each a token_sha256 or a uid under auth in {config.security.rbac_policy_path}: {who}"
    if config.security.require_client_auth:
        raise PolicyError(f"security.require_client_auth is true and {len(unproven)} clients have no proof; {remedy}")
    if not config.server.bind_addr.is_loopback:
        raise PolicyError(
            f"server.bind_addr {config.server.bind_addr} can be reached from other machines and "
            f"{len(unproven)} clients have no proof; {remedy}"
        )
