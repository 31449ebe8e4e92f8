"""Tests, and what they start, reach this machine alone; a run tells nobody of itself."""

import os
import socket
import subprocess
import sys
import threading

import pytest
from conftest import SCRIPTS

ELSEWHERE = ("192.0.2.1", 80)  # of the addresses that documentation is given, where nobody is


@pytest.mark.parametrize(
    "reach",
    [
        lambda: socket.create_connection(ELSEWHERE, timeout=5),
        lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"", ELSEWHERE),
        lambda: socket.getaddrinfo("example.org", 80),
        lambda: socket.gethostbyname("example.org"),
    ],
)
def test_tests_reach_no_other_machine(reach):
    with pytest.raises(OSError, match="tests have no network"):
        reach()


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_tests_reach_this_machine(host):
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection((host, server.getsockname()[1]), timeout=5).close()


def test_unix_sockets_are_left_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # their paths may have 107 characters
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind("here")
        server.listen()
        client.connect("here")


def test_processes_that_tests_start_reach_no_other_machine():
    program = f"import socket; socket.create_connection({ELSEWHERE}, timeout=5)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert "tests have no network" in done.stderr


def test_a_run_that_is_tracked_offline_tells_nobody(tmp_path):
    """wandb's own process is not Python, but like most it goes where HTTPS_PROXY says."""
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def listen():
            while True:
                connection, _ = proxy.accept()
                with connection:
                    if not (said := connection.recv(1000)):
                        return
                    heard.append(said)

        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        where = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
        command = [sys.executable, SCRIPTS / "train.py", "dataset=digits", "model=logistic"]
        subprocess.run(
            [*command, "compressor=qsgd", "rounds=1", "threads=1"],
            cwd=tmp_path,
            env={**environment, **dict.fromkeys(names, where), "NO_PROXY": "", "no_proxy": ""},
            check=True,
        )
        socket.create_connection(proxy.getsockname()).close()  # says nothing: the end
        thread.join(timeout=60)
    assert list(tmp_path.glob("results/wandb/offline-run-*"))
    assert heard == []
