"""Prometheus and Alertmanager: the newest that is new enough is taken, and packages are unpacked, not installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pointsman.infra.dev import real_parts


def script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def versioned(path: Path, version: str) -> Path:
    """A program that says its version and nothing else."""
    return script(path, f'echo "{path.name}, version {version}+ds (branch: debian)"')


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without anything; its cache is `pointsman` in this folder, its programs are in `bin`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    return tmp_path


def unpacked(machine: Path, package: str, version: str, name: str) -> Path:
    return versioned(machine / "pointsman" / f"{package}_{version}_amd64" / "usr" / "bin" / name, version)


def test_of_several_the_newest_is_taken(bare: Path) -> None:
    unpacked(bare, "prometheus", "2.45.0", "promtool")
    newest = unpacked(bare, "prometheus", "2.142.1", "promtool")
    unpacked(bare, "prometheus", "2.53.3", "promtool")
    versioned(bare / "bin" / "promtool", "3.1.0")
    assert real_parts.program("promtool") == newest


def test_what_is_on_the_path_does_too(bare: Path) -> None:
    found = versioned(bare / "bin" / "prometheus", "3.0.0")
    assert real_parts.program("prometheus") == found
    upstream = versioned(bare / "bin" / "alertmanager", "0.27.0")
    assert real_parts.program("alertmanager") == upstream


def test_what_is_too_old_or_broken_is_not(bare: Path) -> None:
    unpacked(bare, "prometheus", "2.41.9", "prometheus")
    script(bare / "bin" / "prometheus", "exit 1")
    with pytest.raises(real_parts.MissingPartError, match=r"Prometheus 2\.42 or newer.*make real-parts"):
        real_parts.program("prometheus")
    versioned(bare / "bin" / "amtool", "0.24.0")
    with pytest.raises(real_parts.MissingPartError, match=r"Alertmanager 0\.25 or newer"):
        real_parts.program("amtool")


def test_without_apt_it_is_said_what_is_needed(bare: Path) -> None:
    with pytest.raises(real_parts.MissingPartError, match=r"needed: Prometheus 2\.42"):
        real_parts.fetch_monitors()
    assert not (bare / "pointsman").exists()


APT = """
[ "$4" = download ] || exit 0
[ -e "{lists}" ] || exit 100
: > "$5_9.1.0_amd64.deb"
"""
DPKG = """
mkdir -p "$3/usr/bin"
for name in prometheus promtool prometheus-alertmanager amtool; do
    printf '#!/bin/sh\\necho "x, version 9.1.0"\\n# /usr/share/prometheus/\\n' > "$3/usr/bin/$name"
    chmod 755 "$3/usr/bin/$name"
done
"""


@pytest.fixture
def debian(bare: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian whose apt has lists of packages where the file `lists` is there; a program of its own notes calls."""
    monkeypatch.setenv("PATH", f"{bare / 'bin'}:/usr/bin:/bin")
    monkeypatch.setattr(real_parts.shutil, "which", _only(bare / "bin"))
    script(bare / "bin" / "apt-get", f'echo "$*" >> {bare}/calls\n{APT.format(lists=bare / "lists")}')
    script(bare / "bin" / "dpkg-deb", DPKG)
    return bare


def _only(folder: Path) -> object:
    return lambda name: str(folder / name) if (folder / name).exists() else None


def test_packages_are_unpacked_into_folders_with_their_versions(debian: Path) -> None:
    (debian / "lists").touch()
    real_parts.fetch_monitors()
    cache = debian / "pointsman"
    assert sorted(path.name for path in cache.iterdir()) == [
        "prometheus-alertmanager_9.1.0_amd64",
        "prometheus_9.1.0_amd64",
    ]
    assert real_parts.program("promtool") == cache / "prometheus_9.1.0_amd64" / "usr" / "bin" / "promtool"
    moved = real_parts.program("alertmanager")
    assert moved == cache / "prometheus-alertmanager_9.1.0_amd64" / "usr" / "bin" / "alertmanager"
    assert "usr//share/prometheus/" in moved.read_text()
    assert " /usr/share/prometheus/" not in moved.read_text()
    calls = (debian / "calls").read_text()
    assert "install" not in calls
    real_parts.fetch_monitors()
    assert (debian / "calls").read_text() == calls, "what is there is not fetched again"


def test_a_program_that_has_a_package_of_its_own_is_fetched_too(debian: Path) -> None:
    (debian / "lists").touch()
    script(debian / "bin" / "dpkg-deb", DPKG + 'case "$2" in *prometheus_*) rm "$3/usr/bin/promtool";; esac')
    real_parts.fetch_monitors()
    assert real_parts.program("promtool").parts[-4] == "promtool_9.1.0_amd64"
    assert (debian / "calls").read_text().count("download prometheus\n") == 1


def test_without_lists_of_packages_root_fetches_them_and_others_are_told(
    debian: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real_parts.os, "geteuid", lambda: 1000)
    with pytest.raises(real_parts.MissingPartError, match=r"code 100.*Prometheus 2\.42"):
        real_parts.fetch_monitors()
    assert " update" not in (debian / "calls").read_text()
    monkeypatch.setattr(real_parts.os, "geteuid", lambda: 0)
    with pytest.raises(real_parts.MissingPartError):
        real_parts.fetch_monitors()
    assert " update" in (debian / "calls").read_text()
    assert list((debian / "pointsman").iterdir()) == [], "nothing half done is left"
