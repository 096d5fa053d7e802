"""The real parts are the ones that are listed, and their absence is never silent."""

import hashlib
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from pointsman.infra.dev import real_parts

ROOT = Path(__file__).parents[3]
NEEDS_KAFKA = (
    "tests/integration/real_parts/test_servers.py::test_a_java_client_reads_what_a_java_client_wrote"
)


@pytest.fixture
def jars(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the one jar that is listed."""
    (tmp_path / "a.jar").write_bytes(b"content")
    monkeypatch.setattr(
        real_parts, "expected_jars", lambda _: {"a.jar": hashlib.sha256(b"content").hexdigest()}
    )
    return tmp_path


def test_the_listed_jars_are_in_order(jars: Path) -> None:
    assert real_parts.jar_faults(jars) == []


def test_a_changed_jar_is_noticed(jars: Path) -> None:
    (jars / "a.jar").write_bytes(b"changed")
    assert real_parts.jar_faults(jars) == ["other content than listed: a.jar"]


def test_a_missing_and_a_foreign_jar_are_noticed(jars: Path) -> None:
    (jars / "a.jar").rename(jars / "b.jar")
    assert real_parts.jar_faults(jars) == ["missing: a.jar", "not on the list: b.jar"]


def test_the_list_the_pom_and_the_module_name_one_kafka() -> None:
    version = ET.parse(real_parts.HERE / "pom.xml").findtext(".//{*}properties/{*}kafka.version")
    assert version == real_parts.KAFKA_VERSION
    assert f"kafka_2.13-{version}.jar" in real_parts.expected_jars()
    assert f"kafka-tools-{version}.jar" in real_parts.expected_jars()


def test_kafka_streams_is_of_the_same_version() -> None:
    assert ET.parse(real_parts.STREAMS_POM).findtext(".//{*}properties/{*}kafka.version") == (
        real_parts.KAFKA_VERSION
    )
    listed = real_parts.expected_jars(real_parts.STREAMS_LISTING)
    assert f"kafka-streams-{real_parts.KAFKA_VERSION}.jar" in listed


def test_another_listing_is_held_against_another_folder(tmp_path: Path) -> None:
    listing = tmp_path / "jars.sha256"
    listing.write_text(f"{hashlib.sha256(b'content').hexdigest()}  a.jar\n")
    with pytest.raises(real_parts.MissingPartError, match=r"missing: a\.jar"):
        real_parts.jars(tmp_path, listing)
    (tmp_path / "a.jar").write_bytes(b"content")
    assert real_parts.jars(tmp_path, listing) == tmp_path


def test_what_cannot_be_installed_is_named_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(
        real_parts.MissingPartError, match=r"(?s)Java.*sudo apt-get install default-jdk-headless"
    ):
        real_parts.install(["java"])


def test_timescaledb_that_cannot_be_had_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(real_parts.MissingPartError, match="make real-parts, as root"):
        real_parts.timescale_root()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for look in (real_parts.timescale_root, real_parts.make_timescale):
        with pytest.raises(real_parts.MissingPartError, match=r"needed: root.*POINTSMAN_TEST_DSN"):
            look()


def test_timescaledb_that_is_made_is_not_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    root = tmp_path / "pointsman" / real_parts.TIMESCALE_FOLDER
    root.mkdir(parents=True)
    (root / "complete").touch()
    monkeypatch.setattr(real_parts, "_debootstrap", None)
    assert real_parts.make_timescale() == real_parts.timescale_root() == root


def test_a_fetch_of_timescaledb_that_fails_leaves_nothing_and_is_no_failure_of_the_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_network(root: Path) -> None:
        (root / "half").mkdir(parents=True)
        raise subprocess.CalledProcessError(1, "debootstrap")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name, value in (
        ("POINTSMAN_TEST_KAFKA", "127.0.0.1:9092"),
        ("POINTSMAN_TEST_DSN", ""),
        ("XDG_CACHE_HOME", str(tmp_path)),
    ):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(real_parts, "_debootstrap", without_network)
    monkeypatch.setattr(real_parts, "postgres_bin", lambda: tmp_path)
    monkeypatch.setattr(real_parts, "apt_install", lambda _: None)
    monkeypatch.setattr(real_parts, "fetch_monitors", lambda: None)
    monkeypatch.setattr(real_parts, "program", Path)
    assert real_parts.main() == 0
    said = capsys.readouterr()
    assert "PostgreSQL" in said.out
    assert "without TimescaleDB, whose tests will be skipped" in said.err
    assert list((tmp_path / "pointsman").iterdir()) == []


def test_servers_that_run_already_need_nothing_installed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("POINTSMAN_TEST_KAFKA", "127.0.0.1:9092")
    monkeypatch.setenv("POINTSMAN_TEST_DSN", "host=/nowhere")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert real_parts.missing() == []


def run_without_kafka(cache: Path, *, ci: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "CI": ci}
    environment.pop("POINTSMAN_TEST_KAFKA", None)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", NEEDS_KAFKA],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_a_skip_is_told_at_the_end_with_its_reason(tmp_path: Path) -> None:
    done = run_without_kafka(tmp_path, ci="")
    assert done.returncode == 0, done.stdout
    assert any("skipped: 1 because Apache Kafka" in line for line in done.stdout.splitlines()[-2:]), (
        done.stdout
    )


def test_under_ci_a_missing_part_is_a_failure(tmp_path: Path) -> None:
    done = run_without_kafka(tmp_path, ci="true")
    assert done.returncode == 1, done.stdout
    assert "Apache Kafka" in done.stdout
