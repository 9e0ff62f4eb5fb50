import socket

import pytest

from demo import ports
from demo.errors import TryoutError


def test_the_preferred_port_is_taken_when_it_is_free() -> None:
    assert ports.choose(8081, free=lambda port: True) == 8081


def test_the_next_free_port_is_taken_when_the_preferred_one_is_not() -> None:
    assert ports.choose(8081, free=lambda port: port >= 8084) == 8084


def test_an_error_says_how_to_see_who_has_the_ports() -> None:
    with pytest.raises(TryoutError, match="ss -ltnp"):
        ports.choose(8081, free=lambda port: False)


def test_a_port_that_somebody_listens_on_is_not_free() -> None:
    with socket.create_server((ports.HOST, 0)) as server:
        assert not ports.is_free(server.getsockname()[1])
