"""Find, or set up, what tests and benchmarks run against: Kafka's jars with a JDK, PostgreSQL, TimescaleDB, Prometheus.

As a script it installs what is missing (apt as root on Debian and its kin, else it names what to do and exits
with 1); as a module it only looks. With `servers` as its argument it leaves out what no benchmark needs. TimescaleDB is
a root folder of Debian 13 to be run by chroot; where that cannot be had it says so, and its tests are skipped.
Standard library only, for it runs before any environment exists.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).resolve().parent
KAFKA_LISTING = HERE / "kafka-jars.sha256"
STREAMS_LISTING = HERE / "kafka-streams-jars.sha256"
STREAMS_POM = HERE / "kafka-streams.pom.xml"
KAFKA_VERSION = "4.1.1"  # the same as in pom.xml; a test compares them
JAVA_MINIMUM = 17  # what Kafka 4's broker is compiled for
POSTGRES_MINIMUM = 15  # the oldest that the migrations promise to run on
TIMESCALE_SUITE = "trixie"  # the first Debian that has TimescaleDB, its Apache edition
TIMESCALE_FOLDER = f"timescaledb-{TIMESCALE_SUITE}-1"  # the number: of what is in it; raise it with a change
TIMESCALE_PACKAGES = ("postgresql-17", "postgresql-17-timescaledb")
TIMESCALE_BIN = Path("/usr/lib/postgresql/17/bin")  # within the folder
COPY_PLUGIN = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
APT_PACKAGES = {"java": "default-jdk-headless", "maven": "maven", "postgres": "postgresql"}
UNPACKED = {
    "prometheus": ("prometheus",),
    "promtool": ("prometheus", "promtool"),  # from Debian 13 on a package of its own
    "alertmanager": ("prometheus-alertmanager",),
    "amtool": ("prometheus-alertmanager",),
}
"""Programs, and Debian's packages that have them: unpacked and not installed, so that no daemon starts."""
DEBIAN_NAMES = {"alertmanager": "prometheus-alertmanager"}
INSTALLED_AT, UNPACKED_AT = b"/usr/share/prometheus/", b"usr//share/prometheus/"
"""Where Debian's Alertmanager looks for its own templates, and the same from the folder that it is unpacked in."""
PROMETHEUS_MINIMUM = (2, 42)  # the first whose alerts go on firing for a while (keep_firing_for)
ALERTMANAGER_MINIMUM = (0, 25)  # the first that reads the mail relay's password from a file
HOW_TO_GET = {
    "java": f"a Java runtime, version {JAVA_MINIMUM} or newer (set JAVA_HOME, or put java on PATH)",
    "maven": "Maven 3.6 or newer, once, to fetch Kafka's jars (put mvn on PATH)",
    "postgres": f"a PostgreSQL server, version {POSTGRES_MINIMUM} or newer (put its bin folder on PATH)",
    "prometheus": "Prometheus 2.42 or newer with promtool (put both on PATH)",
    "alertmanager": "Alertmanager 0.25 or newer with amtool (put both on PATH)",
}


class MissingPartError(Exception):
    """A real part is not on this machine; the message says which and how to get it."""


def _lack(what: str) -> NoReturn:
    raise MissingPartError(what)


def cache() -> Path:
    """Where everything that is fetched is kept: `~/.cache/pointsman`, or below XDG_CACHE_HOME."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pointsman"


def jar_folder() -> Path:
    """Where Kafka's jars are, or will be."""
    return cache() / f"kafka-{KAFKA_VERSION}" / "libs"


def streams_folder() -> Path:
    """Where the jar of Kafka Streams is, or will be: a contender of the benchmarks, nothing that the broker needs."""
    return cache() / f"kafka-streams-{KAFKA_VERSION}" / "libs"


def expected_jars(listing: Path = KAFKA_LISTING) -> dict[str, str]:
    """File name -> SHA-256, as committed; Kafka's own listing lies beside this module."""
    lines = listing.read_text().splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def jar_faults(folder: Path, listing: Path = KAFKA_LISTING) -> list[str]:
    """What is wrong with the jars in a folder: missing, changed, foreign ones; none when all is well."""
    expected = expected_jars(listing)
    present = {path.name: path for path in folder.glob("*.jar")}
    faults = [f"missing: {name}" for name in sorted(expected.keys() - present.keys())]
    faults += [f"not on the list: {name}" for name in sorted(present.keys() - expected.keys())]
    for name in sorted(expected.keys() & present.keys()):
        if hashlib.sha256(present[name].read_bytes()).hexdigest() != expected[name]:
            faults.append(f"other content than listed: {name}")
    return faults


def kafka_jars() -> Path:
    """The folder of Kafka's jars, every checksum verified. Raises MissingPartError."""
    return jars(jar_folder(), KAFKA_LISTING)


def streams_jars() -> Path:
    """The folder of Kafka Streams' jar, likewise. Raises MissingPartError."""
    return jars(streams_folder(), STREAMS_LISTING)


def jars(folder: Path, listing: Path) -> Path:
    """The folder again, every checksum verified. Raises MissingPartError."""
    if faults := jar_faults(folder, listing):
        _lack(
            f"Apache Kafka {KAFKA_VERSION} is not in {folder} ({len(faults)} faults, {faults[0]}): make real-parts"
        )
    return folder


def java() -> Path:
    """A new enough Java: from JAVA_HOME, else PATH, else /usr/lib/jvm. Raises MissingPartError."""
    home = os.environ.get("JAVA_HOME")
    candidates = [Path(home) / "bin" / "java"] if home else []
    on_path = shutil.which("java")
    candidates += [Path(on_path)] if on_path else []
    candidates += sorted(Path("/usr/lib/jvm").glob("*/bin/java"), reverse=True)
    for candidate in candidates:
        if candidate.exists() and _java_version(candidate) >= JAVA_MINIMUM:
            return candidate
    _lack(f"needed: {HOW_TO_GET['java']}")


def _java_version(binary: Path) -> int:
    """17 for 'version "17.0.15"', 8 for 'version "1.8.0"', 0 when it does not run."""
    try:
        done = subprocess.run([binary, "-version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', done.stderr)
    return int(found.group(1)) if found else 0


def postgres_bin() -> Path:
    """The folder of the newest PostgreSQL server's programs (initdb, postgres). Raises MissingPartError."""
    folders = list(Path("/usr/lib/postgresql").glob("*/bin"))
    on_path = shutil.which("postgres")
    folders += [Path(on_path).resolve().parent] if on_path else []
    versions = {folder: _postgres_version(folder) for folder in folders}
    best = max(versions, key=lambda folder: versions[folder], default=None)
    if best is None or versions[best] < POSTGRES_MINIMUM:
        _lack(f"needed: {HOW_TO_GET['postgres']}")
    return best


def _postgres_version(folder: Path) -> int:
    """15 for 'postgres (PostgreSQL) 15.18 (Debian ...)', 0 when the server or initdb is not there."""
    if not (folder / "postgres").exists() or not (folder / "initdb").exists():
        return 0
    done = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    found = re.search(r"\) (\d+)", done.stdout)
    return int(found.group(1)) if found else 0


def program(name: str) -> Path:
    """A program of Prometheus or Alertmanager, from the cache, else from PATH. Raises MissingPartError."""
    folders = [each for package in UNPACKED[name] for each in cache().glob(f"{package}_*/usr/bin/{name}")]
    unpacked = sorted(folders, key=lambda path: [*map(int, re.findall(r"\d+", path.parts[-4]))], reverse=True)
    on_path = [path for each in (name, DEBIAN_NAMES.get(name, name)) if (path := shutil.which(each))]
    of_prometheus = "prometheus" in UNPACKED[name]
    for found in [*unpacked, *map(Path, on_path)]:
        if _monitor_version(found) >= (PROMETHEUS_MINIMUM if of_prometheus else ALERTMANAGER_MINIMUM):
            return found
    needed = HOW_TO_GET["prometheus" if of_prometheus else "alertmanager"]
    _lack(f"needed: {needed}; on Debian or Ubuntu: make real-parts")


def _monitor_version(binary: Path) -> tuple[int, ...]:
    """(2, 42) for 'prometheus, version 2.42.0+ds (branch: ...)', nothing when it does not run."""
    try:
        done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=60, check=False)
    except OSError:
        return ()
    found = re.search(r"version v?(\d+)\.(\d+)", done.stdout + done.stderr)
    return (int(found[1]), int(found[2])) if found else ()


def fetch_monitors() -> None:
    """Fetch Debian's packages of Prometheus and Alertmanager as far as programs lack. Raises MissingPartError."""
    fetched = set()
    for name, packages in UNPACKED.items():
        for package in packages:
            if package not in fetched and _lacking(name, partial(program, name)):
                unpack(package)
                fetched.add(package)
        program(name)


def unpack(package: str) -> None:
    """Fetch a Debian package through apt and unpack it into the cache, in a folder that has its version.

    No root is needed where apt knows its packages; apt checks what it fetched. Raises MissingPartError.
    """
    needed = HOW_TO_GET["alertmanager" if "alertmanager" in package else "prometheus"]
    if not shutil.which("apt-get"):
        _lack(f"needed: {needed}")
    cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache()) as scratch:
        try:
            _apt_download(package, Path(scratch))
            (archive,) = Path(scratch).glob("*.deb")
            content = Path(scratch) / "content"
            subprocess.run(["dpkg-deb", "-x", archive, content], check=True)
            _relocate(content / "usr" / "bin")
        except subprocess.CalledProcessError as error:
            msg = f"{package} could not be fetched (code {error.returncode}); needed: {needed}"
            raise MissingPartError(msg) from error
        target = cache() / archive.stem
        shutil.rmtree(target, ignore_errors=True)
        content.rename(target)


def _relocate(programs: Path) -> None:
    """Give Debian's Alertmanager its usual name, and have it look for its templates where it is started.

    The path in the program is made relative, by as many bytes; it is started in the folder that has `usr`.
    """
    for usual, debian in DEBIAN_NAMES.items():
        if (programs / debian).exists():
            moved = (programs / debian).rename(programs / usual)
            moved.write_bytes(moved.read_bytes().replace(INSTALLED_AT, UNPACKED_AT))


def _apt_download(package: str, folder: Path) -> None:
    # root fetches as itself: apt's own user may not enter the folder
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", package]
    done = subprocess.run(download, cwd=folder, check=False)
    if done.returncode and os.geteuid() == 0:  # a bare system has no lists of packages yet
        subprocess.run(["apt-get", "-q", "-o", "DPkg::Lock::Timeout=120", "update"], check=True)
        done = subprocess.run(download, cwd=folder, check=False)
    done.check_returncode()


def timescale_root() -> Path:
    """The root folder of a Debian with PostgreSQL 17 and TimescaleDB, to be run by chroot. Raises MissingPartError."""
    root = cache() / TIMESCALE_FOLDER
    if os.geteuid() != 0:
        _lack("needed: root, to run TimescaleDB by chroot, or POINTSMAN_TEST_DSN of a server that has it")
    if not (root / "complete").exists():
        _lack(f"TimescaleDB's Apache edition is not in {root}: make real-parts, as root on Debian or Ubuntu")
    return root


def make_timescale() -> Path:
    """The same, made by debootstrap where it is not there yet (two minutes). Raises MissingPartError."""
    root = cache() / TIMESCALE_FOLDER
    if os.geteuid() != 0 or (root / "complete").exists():
        return timescale_root()
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root.parent, ignore_cleanup_errors=True) as scratch:
        made = Path(scratch) / "root"
        try:
            if not shutil.which("debootstrap"):
                apt_install(["debootstrap"])
            _debootstrap(made)
        except (OSError, subprocess.CalledProcessError) as error:
            msg = f"TimescaleDB's Apache edition could not be fetched ({error})"
            raise MissingPartError(msg) from error
        if not (made / "dev" / "null").is_char_device():
            _lack("TimescaleDB's Apache edition needs the right to make device files (mknod) for its chroot")
        made.chmod(0o755)
        (made / "complete").touch()
        shutil.rmtree(root, ignore_errors=True)
        made.rename(root)
    return root


def _debootstrap(root: Path) -> None:
    """A minimal Debian, then the packages; no service is started, and no cluster made."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    subprocess.run(["debootstrap", "--variant=minbase", TIMESCALE_SUITE, root], env=environment, check=True)
    policy = root / "usr" / "sbin" / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    wish = root / "etc" / "postgresql-common" / "createcluster.conf"
    wish.parent.mkdir(parents=True)
    wish.write_text("create_main_cluster = false\n")
    keep = ["-o", "Dpkg::Options::=--force-confold"]
    install = ["apt-get", "-q", "-y", *keep, "-o", "Dpkg::Use-Pty=0", "install", "--no-install-recommends"]
    subprocess.run(["chroot", root, *install, *TIMESCALE_PACKAGES], env=environment, check=True)
    subprocess.run(["chroot", root, "apt-get", "clean"], env=environment, check=True)


def missing() -> list[str]:
    """The keys of HOW_TO_GET for what has to be installed; nothing for what the environment points to."""
    parts = []
    if not os.environ.get("POINTSMAN_TEST_KAFKA"):
        parts += _lacking("java", java)
        faults = jar_faults(jar_folder()) or jar_faults(streams_folder(), STREAMS_LISTING)
        if faults and not shutil.which("mvn"):
            parts.append("maven")
    if not os.environ.get("POINTSMAN_TEST_DSN"):
        parts += _lacking("postgres", postgres_bin)
    return parts


def _lacking(name: str, find: Callable[[], object]) -> list[str]:
    try:
        find()
    except MissingPartError:
        return [name]
    return []


def install(parts: list[str]) -> None:
    """Install parts through apt. Raises MissingPartError without root, without apt, or when apt fails."""
    needed = "\n  ".join(HOW_TO_GET[part] for part in parts)
    packages = [APT_PACKAGES[part] for part in parts]
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        _lack(f"needed:\n  {needed}\non Debian or Ubuntu: sudo apt-get install {' '.join(packages)}")
    try:
        apt_install(packages)
    except subprocess.CalledProcessError as error:
        msg = f"apt-get failed with code {error.returncode}; needed:\n  {needed}"
        raise MissingPartError(msg) from error


def apt_install(packages: list[str]) -> None:
    """apt-get install without questions, and without the cluster that Debian makes for a new PostgreSQL."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quietly = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]
    install = [*quietly, "install", "--no-install-recommends"]
    subprocess.run([*quietly, "update"], env=environment, check=True)
    if APT_PACKAGES["postgres"] not in packages:
        subprocess.run([*install, *packages], env=environment, check=True)
        return
    subprocess.run([*install, "postgresql-common"], env=environment, check=True)
    wish = Path("/etc/postgresql-common/createcluster.conf")
    before = wish.read_text()
    wish.write_text(f"{before}\ncreate_main_cluster = false\n")
    try:
        subprocess.run([*install, *packages], env=environment, check=True)
    finally:
        wish.write_text(before)


def fetch_jars(target: Path, listing: Path = KAFKA_LISTING, pom: Path = HERE / "pom.xml") -> None:
    """Fetch the jars of a pom with Maven; put in place only when all are right. Raises MissingPartError."""
    if not jar_faults(target, listing):
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        fetched = Path(scratch) / "libs"
        _maven_copy(fetched, pom, repository=Path(scratch) / "maven")
        if faults := jar_faults(fetched, listing):
            msg = f"what Maven fetched is not what is listed in {listing.name}: " + "; ".join(faults)
            raise MissingPartError(msg)
        shutil.rmtree(target, ignore_errors=True)
        fetched.rename(target)


def _maven_copy(folder: Path, pom: Path, repository: Path) -> None:
    command = ["mvn", "-q", "-B", "-f", str(pom), f"-Dmaven.repo.local={repository}"]
    command += [COPY_PLUGIN, "-DincludeScope=runtime", f"-DoutputDirectory={folder}"]
    try:
        subprocess.run(command, check=True)
    except subprocess.CalledProcessError as error:
        msg = f"Maven could not fetch Kafka's jars (code {error.returncode}): is Maven Central reachable?"
        raise MissingPartError(msg) from error


def main(arguments: Sequence[str] = ()) -> int:
    """Set up what is missing and say what there is; the exit code is 1 when something cannot be had."""
    try:
        if parts := missing():
            install(parts)
        if os.environ.get("POINTSMAN_TEST_KAFKA"):
            print(f"Kafka: the one at {os.environ['POINTSMAN_TEST_KAFKA']}")
        else:
            fetch_jars(jar_folder())
            fetch_jars(streams_folder(), STREAMS_LISTING, STREAMS_POM)
            print(f"Kafka: {kafka_jars()} with {java()}")
        if os.environ.get("POINTSMAN_TEST_DSN"):
            print("PostgreSQL: the one that POINTSMAN_TEST_DSN names")
        else:
            print(f"PostgreSQL: {postgres_bin()}")
        if "servers" not in arguments:
            fetch_monitors()
            print(f"Prometheus: {program('prometheus')} and {program('alertmanager')}")
    except MissingPartError as reason:
        print(reason, file=sys.stderr)
        return 1
    if "servers" not in arguments:
        try:
            print(f"TimescaleDB, Apache edition: {make_timescale()}")
        except MissingPartError as reason:
            print(f"without TimescaleDB, whose tests will be skipped: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
