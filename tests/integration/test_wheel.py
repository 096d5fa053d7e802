"""The wheel: one name on top, everything inside that it needs, and a demo that runs from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ALERTS = (
    "infra/prometheus/prometheus.yml",
    "infra/prometheus/rules/agents/documentation-keeper.yml",
    "infra/prometheus/templates/bad.promql",
    "infra/alertmanager/alertmanager.yml",
    "infra/alertmanager/templates/pointsman.tmpl",
)
SOURCES = ("schemas", "models", "streams", "infra", "pyproject.toml", "README.md", "LICENSE")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left behind in the repository."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / "source").mkdir(exist_ok=True)
            shutil.copy(source, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "-w", folder, folder / "source"], check=True)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_takes_no_other_name(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pointsman"}
    for needed in ("model/card.json", "model/model.onnx", "0001_audit.sql", "py.typed", *ALERTS):
        assert any(name.endswith(needed) for name in names), needed
    assert not [name for name in names if "tests/" in name or "infra/dev" in name]


def test_alerts_are_written_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "packages")
    paths = [str(tmp_path / "packages"), sysconfig.get_path("purelib")]
    program = (
        f"import sys; sys.path[:] = {paths!r} + [p for p in sys.path if 'site-packages' not in p and p]\n"
        "from pointsman.streams.cli import main\nmain(['alerts', 'write', 'made'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for folder in ("prometheus", "alertmanager"):
        for path in (tmp_path / "made" / folder).rglob("*.yml"):
            assert path.read_text() == (ROOT / "infra" / path.relative_to(tmp_path / "made")).read_text()
    assert (tmp_path / "made" / "alertmanager" / "templates" / "pointsman.tmpl").is_file()


def test_the_demo_runs_from_the_wheel(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own; the dependencies are lent by this one, without its editable install."""
    home = tmp_path / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    history = tmp_path / "a history"
    _make_history(history)

    done = subprocess.run(
        [home / "bin" / "python", "-m", "pointsman.streams.cli", "demo", "--git", history, "--json"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["requests"] == report["outcomes"] == report["rows"] == 12, report
    where = [home / "bin" / "python", "-c", "import pointsman.streams.cli as c; print(c.__file__)"]
    assert str(home) in subprocess.run(where, capture_output=True, text=True, check=True, cwd=tmp_path).stdout


def _make_history(folder: Path) -> None:
    def git(*arguments: str) -> None:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        subprocess.run(["git", "-C", folder, *who, *arguments], check=True, capture_output=True)

    folder.mkdir()
    git("init", "-q")
    for number in range(12):
        (folder / f"part{number % 3}.py").write_text(f"def f{number}():\n    return {number}\n")
        if number % 4 == 0:
            (folder / "README.md").write_text(f"Part {number}\n")
        git("add", "-A")
        git("commit", "-qm", f"Change {number}")
