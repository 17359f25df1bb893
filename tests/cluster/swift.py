"""A real S3 service on this machine: OpenStack Swift with its S3 API and one replica."""

import os
import shutil
import socket
import subprocess
from functools import partial
from pathlib import Path

from projects import free_ports, until

SERVERS = ("account", "container", "object")
DAEMONS = {server: f"swift-{server}-server" for server in SERVERS}
TOOLS = ("swift-proxy-server", "swift-ring-builder", *DAEMONS.values(), "memcached")
STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
workers = 0
devices = {home}/devices
swift_dir = {home}
mount_check = false
log_address = {home}/no-syslog
[pipeline:main]
pipeline = {server}-server
[app:{server}-server]
use = egg:swift#{server}
"""
PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
user = root
workers = 0
swift_dir = {home}
log_address = {home}/no-syslog
[pipeline:main]
pipeline = head catch_errors gatekeeper cache s3api tempauth copy slo dlo versioned_writes proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:{memcached}
[filter:head]
paste.filter_factory = head:factory
[filter:s3api]
use = egg:swift#s3api
s3_acl = false
[filter:tempauth]
use = egg:swift#tempauth
user_test_lab = secret .admin
user_test_guest = guest
[filter:copy]
use = egg:swift#copy
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:versioned_writes]
use = egg:swift#versioned_writes
[filter:slo]
use = egg:swift#slo
[filter:dlo]
use = egg:swift#dlo
"""
# Debian's eventlet terminates HEAD responses like bodies, which makes the next response unreadable.
HEAD = """
def factory(*_, **__):
    def without_body(app):
        def answer(environ, start):
            def started(status, headers, *more):
                if not any(name.lower() == "content-length" for name, _ in headers):
                    headers = [*headers, ("Content-Length", "0")]
                return start(status, headers, *more)
            return app(environ, started if environ["REQUEST_METHOD"] == "HEAD" else start)
        return answer
    return without_body
"""


def missing() -> str | None:
    """Return why Swift cannot be started, or None."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        packages = " ".join(["swift-proxy", *(f"swift-{server}" for server in SERVERS), "memcached"])
        return f"{', '.join(absent)} not found; on Debian: apt-get install {packages}"
    if os.geteuid() != 0:
        return "Swift's configuration in /etc/swift is root's"
    return None


class Swift:
    """`with Swift(folder) as swift`: an S3 endpoint at `swift.url` until the block ends."""

    #: access key and secret of the S3 client
    ACCESS, SECRET = "test:lab", "secret"
    GUEST, GUEST_SECRET = "test:guest", "guest"

    def __init__(self, home: Path):
        self.home, self._processes = home, []
        *ports, self.port, self._memcached = free_ports(5)
        self._ports = dict(zip(SERVERS, ports, strict=True))
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> "Swift":
        try:
            self._bring_up()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _bring_up(self) -> None:
        (self.home / "devices" / "d1").mkdir(parents=True)
        for server, port in self._ports.items():
            ring = f"{server}.builder"
            self._run("swift-ring-builder", ring, "create", "4", "1", "1")
            self._run("swift-ring-builder", ring, "add", f"r1z1-127.0.0.1:{port}/d1", "1")
            self._run("swift-ring-builder", ring, "rebalance")
            config = self.home / f"{server}.conf"
            config.write_text(STORAGE.format(server=server, port=port, home=self.home))
            self._start(server, DAEMONS[server], str(config), "-v")
        memcached = ("memcached", "-l", "127.0.0.1", "-p", str(self._memcached), "-u", "nobody")
        self._start("memcached", *memcached)
        config = self.home / "proxy.conf"
        config.write_text(PROXY.format(port=self.port, home=self.home, memcached=self._memcached))
        (self.home / "head.py").write_text(HEAD)
        self._start("proxy", "swift-proxy-server", str(config), "-v")
        for port in (*self._ports.values(), self._memcached, self.port):
            until(partial(_listening, port), f"who listens on {port}", 30, self.home.glob("*.log"))

    def __exit__(self, *_) -> None:
        for process in reversed(self._processes):
            process.terminate()
            process.wait()

    def _run(self, *command: str) -> None:
        subprocess.run(command, cwd=self.home, check=True, capture_output=True)

    def _start(self, name: str, *command: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            env = {**os.environ, "PYTHONPATH": str(self.home)}
            process = subprocess.Popen(command, cwd=self.home, stdout=log, stderr=log, env=env)
            self._processes.append(process)


def _listening(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
