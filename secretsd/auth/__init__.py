"""Who is asking: what a request claims, what its connection proves, and what the policy makes of it."""

from secretsd.auth.certificate import ClientCertificate, read_certificate
from secretsd.auth.identify import Caller, Claims, identify
from secretsd.auth.peer import uid_of_tcp_peer, uid_of_unix_peer

__all__ = [
    "Caller",
    "Claims",
    "ClientCertificate",
    "identify",
    "read_certificate",
    "uid_of_tcp_peer",
    "uid_of_unix_peer",
]
