"""Apache Kafka, one node or a few, from its published jars: started, stopped and killed by the tests."""

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kafka import KafkaAdminClient
from kafka.errors import KafkaTimeoutError

VERSION = "4.4.0"
CACHE = Path(__file__).resolve().parents[2] / ".kafka"
USER, PASSWORD = "app", "app-secret"
SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule"
JVM = ("-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tests</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""


def run(*command: str, timeout_s: float = 60) -> str:
    done = subprocess.run(command, check=True, capture_output=True, timeout=timeout_s)  # noqa: S603 - our own tools
    return done.stdout.decode()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def jars() -> Path:
    """Fetch the broker's jars once, and return their folder."""
    folder = CACHE / VERSION
    if not folder.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as scratch:
            pom, fetched = Path(scratch, "pom.xml"), Path(scratch, "jars")
            pom.write_text(POM)
            goal = ("dependency:copy-dependencies", f"-DoutputDirectory={fetched}")
            run("mvn", "-q", "-B", "-f", str(pom), *goal, timeout_s=240)
            with contextlib.suppress(OSError):  # another run was faster
                fetched.rename(folder)
    return folder


def certificate(folder: Path) -> None:
    """Make ``ca.pem`` (a self-signed certificate for localhost) and ``keystore.p12`` in a folder."""
    key, cert = folder / "key.pem", folder / "ca.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1")
    run(
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        str(key),
        "-out",
        str(cert),
        *names,
    )
    store = ("-out", str(folder / "keystore.p12"), "-passout", f"pass:{PASSWORD}")
    run("openssl", "pkcs12", "-export", "-inkey", str(key), "-in", str(cert), *store)


EXPIRED = """[ca]
default_ca = ours
[ours]
database = {folder}/index
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
[any]
commonName = supplied
[names]
subjectAltName = DNS:localhost,IP:127.0.0.1
"""


def expired_certificate(folder: Path) -> None:
    """Make ``ca.pem`` and ``key.pem`` in a folder, of a certificate for localhost that ended long ago."""
    (folder / "ca.cnf").write_text(EXPIRED.format(folder=folder))
    (folder / "index").touch()
    key, asked, cert = (str(folder / name) for name in ("key.pem", "asked.pem", "ca.pem"))
    made = ("-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", key, "-out", asked)
    run("openssl", "req", "-new", *made)
    ended = ("-startdate", "20200101000000Z", "-enddate", "20200102000000Z", "-extensions", "names")
    files = ("-config", str(folder / "ca.cnf"), "-keyfile", key, "-in", asked, "-out", cert)
    run("openssl", "ca", "-batch", "-notext", "-selfsign", *files, *ended)


class Broker:
    """One broker on loopback: ``plain`` without login, ``secure`` with TLS and SCRAM-SHA-512.

    ``proxied`` is for a proxy to listen at, before ``behind``: who connects there stays there.
    ``node`` is its number in a cluster, of which ``quorum`` has the addresses of all controllers in order;
    only the first one's proxy is ever there.
    """

    def __init__(self, folder: Path, node: int = 1, quorum: Sequence[str] = (), cluster: str = "") -> None:
        self.folder = folder
        ports = [free_port() for _ in range(5)]
        self.plain, self.secure, self.behind, self.proxied, alone = (f"127.0.0.1:{port}" for port in ports)
        quorum = quorum or (alone,)
        controller, copies = quorum[node - 1], len(quorum)
        voters = ",".join(f"{number}@{address}" for number, address in enumerate(quorum, 1))
        slow = self.proxied if node == 1 else self.behind
        self.cafile = str(folder / "ca.pem")
        self._classpath = f"{jars()}/*"
        self._properties = folder / "server.properties"
        self._process: subprocess.Popen[bytes] | None = None
        certificate(folder)
        listeners = f"PLAINTEXT://{self.plain},SASL_SSL://{self.secure}"
        protocols = "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SLOW:PLAINTEXT,SASL_SSL:SASL_SSL"
        self._properties.write_text(
            "\n".join(
                [
                    "process.roles=broker,controller",
                    f"node.id={node}",
                    f"controller.quorum.voters={voters}",
                    f"listeners={listeners},SLOW://{self.behind},CONTROLLER://{controller}",
                    f"advertised.listeners={listeners},SLOW://{slow}",
                    "controller.listener.names=CONTROLLER",
                    "inter.broker.listener.name=PLAINTEXT",
                    f"listener.security.protocol.map={protocols}",
                    "ssl.keystore.type=PKCS12",
                    f"ssl.keystore.location={folder / 'keystore.p12'}",
                    f"ssl.keystore.password={PASSWORD}",
                    f"ssl.key.password={PASSWORD}",
                    "ssl.client.auth=none",
                    "sasl.enabled.mechanisms=SCRAM-SHA-512",
                    f"listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config={SCRAM_LOGIN} required;",
                    # Who has no login may do everything; the user with one what no rule forbids.
                    "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                    "allow.everyone.if.no.acl.found=true",
                    "super.users=User:ANONYMOUS",
                    f"log.dirs={folder / 'data'}",
                    f"offsets.topic.replication.factor={copies}",
                    "offsets.topic.num.partitions=4",
                    f"transaction.state.log.replication.factor={copies}",
                    f"transaction.state.log.min.isr={(copies + 1) // 2}",
                    "transaction.state.log.num.partitions=4",
                    f"share.coordinator.state.topic.replication.factor={copies}",
                    f"share.coordinator.state.topic.min.isr={(copies + 1) // 2}",
                    "share.coordinator.state.topic.num.partitions=1",
                    "group.initial.rebalance.delay.ms=0",
                    "group.min.session.timeout.ms=1000",
                    "auto.create.topics.enable=false",
                    "log.cleaner.dedupe.buffer.size=4000000",
                    "log.cleaner.backoff.ms=200",
                ]
            )
        )
        self.cluster = cluster or self._java("kafka.tools.StorageTool", "random-uuid").strip()
        scram = f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"
        format_ = ["format", "-t", self.cluster, "-c", str(self._properties), "--add-scram", scram]
        self._java("kafka.tools.StorageTool", *format_)

    def _java(self, *command: str) -> str:
        return run("java", *JVM, "-cp", self._classpath, *command)

    def start(self, timeout_s: float = 120) -> None:
        """Start it, and wait until it answers. Raises RuntimeError."""
        self.launch()
        self.wait(timeout_s)

    def launch(self) -> None:
        """Start it. In a cluster it answers once most controllers are there."""
        with (self.folder / "broker.log").open("ab") as out:
            command = ["java", *JVM, "-cp", self._classpath, "kafka.Kafka", str(self._properties)]
            self._process = subprocess.Popen(command, stdout=out, stderr=out)  # noqa: S603 - our own tool

    def wait(self, timeout_s: float = 120) -> None:
        """Wait until it answers. Raises RuntimeError."""
        assert self._process is not None
        host, port = self.plain.split(":")
        until = time.monotonic() + timeout_s
        while True:
            try:
                socket.create_connection((host, int(port)), timeout=1).close()
                KafkaAdminClient(bootstrap_servers=self.plain, bootstrap_timeout_ms=5000).close()
            except (OSError, KafkaTimeoutError):
                if self._process.poll() is not None or time.monotonic() > until:
                    self.kill()
                    raise RuntimeError((self.folder / "broker.log").read_text()[-2000:]) from None
                time.sleep(0.1)
            else:
                return

    def kill(self) -> None:
        """End it without a word, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=20)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        if self._process is not None:
            self._process.send_signal(number)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.kill()


@contextlib.contextmanager
def running_broker(folder: Path) -> Iterator[Broker]:
    broker = Broker(folder)
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
        shutil.rmtree(folder / "data", ignore_errors=True)


@contextlib.contextmanager
def running_cluster(folder: Path, nodes: int) -> Iterator[list[Broker]]:
    """Run so many brokers as one cluster. What has as many copies outlives any one of them, from three on."""
    quorum = [f"127.0.0.1:{free_port()}" for _ in range(nodes)]
    brokers: list[Broker] = []
    for node in range(1, nodes + 1):
        place = folder / f"node{node}"
        place.mkdir()
        brokers.append(Broker(place, node, quorum, brokers[0].cluster if brokers else ""))
    try:
        for broker in brokers:
            broker.launch()
        for broker in brokers:
            broker.wait()
        yield brokers
    finally:
        for broker in brokers:
            broker.stop()
            shutil.rmtree(broker.folder / "data", ignore_errors=True)
