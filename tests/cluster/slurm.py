"""A real Slurm cluster with one controller and two nodes on this machine."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from projects import BIN, free_ports, until

TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
MARK = secrets.token_hex(4)  # makes node names unique on this machine
NODES = f"n{MARK}x1", f"n{MARK}x2"
CONFIG = """
ClusterName=audionas
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={home}/munge/socket,cred_expire=20
CredType=cred/munge
StateSaveLocation={home}/state
SlurmdSpoolDir={home}/spool-%n
SlurmctldPidFile={home}/slurmctld.pid
SlurmdPidFile={home}/slurmd-%n.pid
SlurmctldLogFile={home}/slurmctld.log
SlurmdLogFile={home}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,batch_sched_delay=1,sched_interval=2,defer
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
ReturnToService=2
SlurmdTimeout={node_timeout}
KillWait=5
MinJobAge=600
SlurmdParameters=config_overrides
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=8 RealMemory=60000 Gres=gpu:2
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=8 RealMemory=60000 Gres=gpu:2
PartitionName=all Nodes={nodes[0]},{nodes[1]} Default=YES MaxTime=UNLIMITED State=UP
"""


def missing() -> str | None:
    """Return why no cluster can be started, or None."""
    absent = [tool for tool in TOOLS if shutil.which(tool) is None]
    if absent:
        return f"{', '.join(absent)} not found; on Debian: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "the daemons of Slurm need root"
    return None


class Slurm:
    """`with Slurm(folder) as slurm`: its daemons run inside the block; `slurm.env` is for users."""

    def __init__(self, home: Path, node_timeout: int = 10):
        self.home = home
        self.config = home / "slurm.conf"
        # Snakemake's job step drops SLURM_CONF. Real sites do not need it.
        path = f"{home / 'bin'}{os.pathsep}{BIN}{os.pathsep}{os.environ['PATH']}"
        self.env = {"SLURM_CONF": str(self.config), "PATH": path}
        self._daemons: dict[str, subprocess.Popen] = {}
        self._node_timeout = node_timeout

    def __enter__(self) -> "Slurm":
        try:
            self._bring_up()
        except BaseException:
            self._end_daemons()
            raise
        return self

    def __exit__(self, *_) -> None:
        with suppress(subprocess.SubprocessError, AssertionError):
            self.ask("scancel", "--user=root")
            until(lambda: not self.jobs(), "an empty queue")
        self._end_daemons()

    def _end_daemons(self) -> None:
        for name in reversed(list(self._daemons)):
            self.kill(name)

    def _bring_up(self) -> None:
        munge = self.home / "munge"
        munge.mkdir(parents=True)
        key = munge / "key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o600)
        for folder in ("state", "bin", *(f"spool-{node}" for node in NODES)):
            (self.home / folder).mkdir()
        srun = self.home / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.config} exec {shutil.which("srun")} "$@"\n')
        srun.chmod(0o755)
        names = {"host": socket.gethostname(), "nodes": NODES, "ports": free_ports(3)}
        self.config.write_text(CONFIG.format(home=self.home, node_timeout=self._node_timeout, **names))
        for gpu in ("gpu0", "gpu1"):  # files replace devices, because Slurm only counts them
            (self.home / gpu).touch()
        (self.home / "gres.conf").write_text(f"Name=gpu File={self.home}/gpu[0-1]\n")
        files = [f"--{name}-file={munge / name}" for name in ("key", "pid", "log", "seed")]
        self._start("munged", "--foreground", "--force", f"--socket={munge / 'socket'}", *files)
        until(lambda: (munge / "socket").exists(), "munged")
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        until(lambda: self.states() == dict.fromkeys(NODES, "idle"), "the nodes")

    def start_controller(self) -> None:
        """Start or restart the controller; it resumes from its saved state."""
        self._start("slurmctld", "-D", "-f", str(self.config))

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._start(node, "slurmd", "-D", "-N", node, "-f", str(self.config))

    def kill(self, name: str) -> None:
        """Kill the daemon of a node, `slurmctld` or `munged`."""
        daemon = self._daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def lose(self, node: str) -> None:
        """Simulate a power failure: kill the daemon of a node and all its processes."""
        self.kill(node)
        for pid in self.processes(node):
            os.kill(pid, signal.SIGKILL)

    def processes(self, node: str) -> list[int]:
        """Return all processes in the jobs of a node."""
        return [
            int(process.name)
            for process in Path("/proc").iterdir()
            if process.name.isdecimal() and f"SLURMD_NODENAME={node}\0" in _environment(process)
        ]

    def jobs(self) -> list[dict[str, str]]:
        """Return pending and running jobs: id, state, node and stage."""
        listed = self.ask("squeue", "--noheader", "--format=%i|%T|%N|%k").splitlines()
        return [
            dict(zip(("id", "state", "node", "comment"), line.split("|"), strict=True)) for line in listed
        ]

    def states(self) -> dict[str, str]:
        """Return the state of each node."""
        listed = self.ask("sinfo", "--noheader", "--Node", "--format=%N %T", check=False).splitlines()
        return dict(line.split() for line in listed)

    def ask(self, *command: str, check: bool = True) -> str:
        """Return the output of a Slurm command."""
        return subprocess.run(
            command, env=self._env, check=check, capture_output=True, text=True, timeout=60
        ).stdout

    @property
    def _env(self) -> dict[str, str]:
        return {**os.environ, **self.env}

    def _start(self, name: str, *command: str) -> None:
        program = command if name in NODES else (name, *command)
        with (self.home / f"{name}.out").open("ab") as out:
            self._daemons[name] = subprocess.Popen(
                program, env=self._env, stdout=out, stderr=out, start_new_session=True
            )


def _environment(process: Path) -> str:
    try:
        return (process / "environ").read_text(errors="replace")
    except OSError:
        return ""
