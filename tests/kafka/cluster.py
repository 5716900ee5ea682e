"""Brokers for tests: Apache Kafka on plain Java, on loopback, without a container engine.

    with Cluster() as cluster:              # three brokers: Cluster(3)
        cluster.bootstrap                   # 127.0.0.1:41001
        cluster.kill(1)                     # kill -9; cluster.start(1) brings it back, same data
        cluster.pause(1)                    # SIGSTOP; cluster.resume(1)

The jars come from Maven's repository once (43 MB, some ten seconds) and stay in the user's cache. A
broker answers in about 1.5 s. It ends with the *thread* that started it (see `Cluster.start`).
"""

import hashlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

POM = Path(__file__).parent / "pom.xml"
CLUSTER_ID = "Zmlyc3RmYXVsdC10ZXN0cw"
"""16 bytes in base64url; any will do."""
START_S_MAX = 90.0
STOP_S_MAX = 15.0
HEAP = "256m"
JVM = (
    "-Xms64m",
    f"-Xmx{HEAP}",
    "-XX:+UseSerialGC",  # Few cores: threads that collect would only compete with the tests.
    "-XX:TieredStopAtLevel=1",  # Starts sooner; a broker is not what is measured.
    "-Xshare:auto",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)
NEEDS = ("java", "mvn", "setpriv")
"""Java 17, Maven for the first time, and setpriv of util-linux."""


class NoBrokerError(Exception):
    """A broker cannot be had, said in one sentence."""


def lacking() -> list[str]:
    """Return the programs that a cluster of our own would need and this machine lacks."""
    needs = NEEDS if not _libs().is_dir() else ("java", "setpriv")
    return [name for name in needs if shutil.which(name) is None]


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    version = hashlib.sha256(POM.read_bytes()).hexdigest()[:12]
    return Path(home) / "firstfault" / "kafka" / version


def _libs() -> Path:
    return _cache() / "libs"


def class_path() -> str:
    """Return the broker's class path; the first time, fetch its jars."""
    libs = _libs()
    if not libs.is_dir():
        _fetch(libs)
    # In one order: an archive of loaded classes is bound to its class path.
    return ":".join(sorted(map(str, libs.glob("*.jar"))))


def _fetch(libs: Path) -> None:
    libs.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=libs.parent))
    goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={part}")
    done = subprocess.run(  # noqa: S603 - our own pom
        ["mvn", "-q", "-B", "-f", str(POM), *goal],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        shutil.rmtree(part)
        raise NoBrokerError(f"mvn could not fetch Apache Kafka: {done.stdout[-1000:]}")
    try:
        part.rename(libs)
    except OSError:  # Another process was faster.
        shutil.rmtree(part)


def free_ports(count: int) -> list[int]:
    """Return so many ports of loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def brokers_seen(port: int) -> int:
    """Return how many live brokers the one at a port knows of; -1 where none answers."""
    try:
        with socket.create_connection(("127.0.0.1", port), 0.2) as connection:
            connection.settimeout(1.0)
            # Metadata, version 1, no topics: the array of brokers stands first in the answer.
            connection.sendall(struct.pack(">ihhihi", 14, 3, 1, 1, -1, 0))
            answer = b""
            while len(answer) < 12:
                part = connection.recv(4096)
                if not part:
                    return -1
                answer += part
            found: int = struct.unpack(">iii", answer[:12])[2]
            return found
    except OSError:
        return -1


class Cluster:
    """Brokers of our own, numbered from 1, each a controller too (KRaft).

    settings: of each broker, in place of or beside those of `_properties`.
    """

    def __init__(self, brokers: int = 1, settings: Mapping[str, object] | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="firstfault-kafka-"))
        self._settings = dict(settings or {})
        self.secure_port: int | None = None
        """Where the first broker also listens, encrypted and with names and passwords."""
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        ports = free_ports(2 * brokers)
        self.ports = {number + 1: ports[2 * number] for number in range(brokers)}
        self._controllers = {number + 1: ports[2 * number + 1] for number in range(brokers)}
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())

    def also_at(self, port: int, advertised: int) -> None:
        """Let its one broker listen on another port too, and say there that it is at a third."""
        (plain,), (controller,) = self.ports.values(), self._controllers.values()
        plainly, proxied = f"PLAINTEXT://127.0.0.1:{plain}", "PROXY://127.0.0.1"
        self._settings |= {
            "listeners": f"{plainly},{proxied}:{port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"{plainly},{proxied}:{advertised}",
            "listener.security.protocol.map": ",".join(
                f"{name}:PLAINTEXT" for name in ("PLAINTEXT", "PROXY", "CONTROLLER")
            ),
        }

    def __enter__(self) -> "Cluster":
        """Start every broker.

        Raises:
            NoBrokerError: they do not serve.
        """
        try:
            self._begin()
        except NoBrokerError:
            self.close()
            raise
        return self

    def _begin(self) -> None:
        for number in self.ports:
            home = self.folder / str(number)
            home.mkdir()
            # What `kafka-storage format` would write, without the start of a JVM.
            (home / "meta.properties").write_text(
                f"version=1\ncluster.id={CLUSTER_ID}\nnode.id={number}\n"
            )
            lines = [f"{key}={value}\n" for key, value in self._properties(number).items()]
            self._file(number, "properties").write_text("".join(lines))
            self.start(number)
        self.wait()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every broker, and drop its data."""
        # Several brokers take 5 s to end cleanly, the last ones waiting for a quorum.
        number = signal.SIGTERM if len(self.ports) == 1 else signal.SIGKILL
        for broker, process in self._processes.items():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.send_signal(number)
            self._reap(broker)
        made = self.folder / "classes.jsa"
        if made.exists():
            shutil.move(made, _cache() / made.name)
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self, number: int) -> None:
        """Start a broker; `wait` returns once it serves.

        It is killed when the thread ends that calls this, so that no test leaves one behind: call
        it from the main thread, never from `asyncio.to_thread`.
        """
        command = ["setpriv", "--pdeathsig", "KILL", "java", *JVM, *self._archive()]
        main = ["-cp", class_path(), "kafka.Kafka", str(self._file(number, "properties"))]
        with self._file(number, "log").open("ab") as log:
            self._processes[number] = subprocess.Popen(  # noqa: S603 - Java, and our own files
                [*command, *main],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def wait(self, timeout_s: float = START_S_MAX) -> None:
        """Return once every broker that runs answers, and knows all others that do."""
        end_s = time.monotonic() + timeout_s
        up = [number for number, one in self._processes.items() if one.poll() is None]
        while any(brokers_seen(self.ports[number]) != len(up) for number in up):
            for number in up:
                if self._processes[number].poll() is not None:
                    raise NoBrokerError(f"broker {number} ended: {self._last_words(number)}")
            if time.monotonic() > end_s:
                words = self._last_words(up[0])
                raise NoBrokerError(f"no broker after {timeout_s:.0f} s: {words}")
            time.sleep(0.02)

    def kill(self, number: int) -> None:
        """End a broker at once, as a power failure would (what the system has, it keeps)."""
        self._processes[number].kill()
        self._reap(number)

    def stop(self, number: int) -> None:
        """End a broker cleanly."""
        self._processes[number].terminate()
        self._reap(number)

    def pause(self, number: int) -> None:
        """Stop a broker without its knowing."""
        self._processes[number].send_signal(signal.SIGSTOP)

    def resume(self, number: int) -> None:
        """Let a broker go on that was stopped."""
        self._processes[number].send_signal(signal.SIGCONT)

    def cpu_s(self, number: int) -> float:
        """Return how much CPU time a broker has used, seconds."""
        pid = self._processes[number].pid
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def _reap(self, number: int) -> None:
        process = self._processes[number]
        try:
            process.wait(STOP_S_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _file(self, number: int, end: str) -> Path:
        return self.folder / f"{number}.{end}"

    def _last_words(self, number: int) -> str:
        return self._file(number, "log").read_text(errors="replace")[-1000:]

    def _archive(self) -> list[str]:
        """Return the options that read, or the first time write, an archive of loaded classes."""
        archive = _cache() / "classes.jsa"
        if archive.exists():
            return [f"-XX:SharedArchiveFile={archive}"]
        if len(self.ports) == 1:
            return [f"-XX:ArchiveClassesAtExit={self.folder / 'classes.jsa'}"]
        return []

    def _properties(self, number: int) -> dict[str, object]:
        copies = min(3, len(self.ports))
        in_sync = 2 if copies == 3 else 1
        listeners = [
            f"PLAINTEXT://127.0.0.1:{self.ports[number]}",
            f"CONTROLLER://127.0.0.1:{self._controllers[number]}",
        ]
        if self.secure_port is not None:
            listeners.append(f"SASL_SSL://127.0.0.1:{self.secure_port}")
        voters = (f"{one}@127.0.0.1:{port}" for one, port in self._controllers.items())
        own_topics: dict[str, object] = {}
        for name in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            own_topics[f"{name}.num.partitions"] = 1
            own_topics[f"{name}.replication.factor"] = copies
        return {
            **own_topics,
            "process.roles": "broker,controller",
            "node.id": number,
            "controller.quorum.voters": ",".join(voters),
            "listeners": ",".join(listeners),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": self.folder / str(number),
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            "transaction.state.log.min.isr": in_sync,
            "share.coordinator.state.topic.min.isr": in_sync,
            "auto.create.topics.enable": "false",
            # Defaults made for data centres; a test would wait for each of them.
            "group.initial.rebalance.delay.ms": 0,
            "broker.heartbeat.interval.ms": 200,
            "broker.session.timeout.ms": 3000,
            "controller.quorum.election.timeout.ms": 300,
            "controller.quorum.fetch.timeout.ms": 1000,
            "controller.quorum.election.backoff.max.ms": 200,
            # The cleaner takes this much of the heap at the start; the default is half of it.
            "log.cleaner.dedupe.buffer.size": 2 << 20,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 2,
            **self._settings,
        }
