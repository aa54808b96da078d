import socket

import pytest

from dynawatt.errors import OperationError
from dynawatt.sandbox.addresses import choose_pod_network, free_ports

ALL = [f"127.{octet}.0.0/16" for octet in range(1, 255)]


def test_ports_are_different_and_free():
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))


def test_the_network_that_is_left_is_chosen():
    for left in ("127.1.0.0/16", "127.77.0.0/16", "127.254.0.0/16"):
        assert choose_pod_network(set(ALL) - {left}) == left


def test_a_network_on_which_anybody_listens_is_avoided():
    with socket.socket() as listener:
        listener.bind(("127.77.3.4", 0))
        listener.listen()
        with pytest.raises(OperationError, match="sandbox down --all"):
            choose_pod_network(set(ALL) - {"127.77.0.0/16"})


def test_the_network_of_localhost_is_never_chosen():
    with pytest.raises(OperationError):
        choose_pod_network(ALL)
