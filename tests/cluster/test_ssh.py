"""Sharing through a real sshd on this machine."""

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from projects import free_ports, run, until
from remotes import Shared

pytestmark = pytest.mark.cluster

SSHD = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin")
CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {home}/host
AuthorizedKeysFile {home}/user.pub
PidFile {home}/pid
PasswordAuthentication no
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
Subsystem sftp internal-sftp
"""


class Server:
    """Run sshd in the foreground, with a key for login."""

    def __init__(self, home: Path):
        self.home, self.key = home, home / "user"
        (self.port,) = free_ports(1)
        for name in ("host", "user"):
            run(home, "ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name))
        (home / "config").write_text(CONFIG.format(port=self.port, home=home))
        self.start()

    def start(self) -> None:
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # sshd requires this folder
        log = self.home / "log"
        with log.open("ab") as written:
            command = [SSHD, "-D", "-e", "-f", str(self.home / "config")]
            self.process = subprocess.Popen(command, stderr=written)
        until(lambda: b"listening" in log.read_bytes(), "sshd", seconds=10, logs=[log])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    if SSHD is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd; on Debian: apt-get install openssh-server openssh-client")
    (tmp_path / "sshd").mkdir()
    one = Server(tmp_path / "sshd")
    yield one
    one.stop()


@pytest.fixture
def shared(server: Server, tmp_path: Path) -> Shared:
    home = tmp_path / "clones"
    home.mkdir()
    url = f"ssh://127.0.0.1:{server.port}{home}/remote"
    return Shared(home, url, own={"user": getpass.getuser(), "keyfile": str(server.key)})


def test_what_one_clone_pushed_the_other_need_not_compute(shared: Shared) -> None:
    shared.take_over()
    assert any(shared.remote.glob("files/md5/*/*"))


def test_a_server_that_is_gone_is_named_and_nothing_is_lost(shared: Shared, server: Server) -> None:
    run(shared.a, "dvc", "repro")
    server.stop()
    said = run(shared.a, "dvc", "push", fails=True)
    assert "127.0.0.1" in said
    assert (shared.a / "join").read_text() == "slow+quick"
    (server.home / "log").unlink()
    server.start()
    run(shared.a, "dvc", "push")
    assert shared.remote_object("slow+quick")
