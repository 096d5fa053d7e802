"""Path classes of documentation-keeper."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pointsman.models.agents.documentation_keeper import paths as p

CASES = {
    p.README: ["README", "README.md", "pkg/Readme.rst", "README_chinese.md", "examples.d/README.txt"],
    p.DOCS: [
        "docs/index.rst",
        "doc/rg.1.txt.tpl",
        "docs/streams/intro.html",
        "GUIDE.md",
        "docs/it/tutorial/a.md",
        "docs/security.rst",
        "docs/user/tests/why.md",
        "Documentation/admin.txt",
        "INTRODUCTION.md",
    ],
    p.CHANGELOG: [
        "CHANGES.rst",
        "CHANGES/8555.breaking.rst",
        "docs/whatsnew-4.0.rst",
        "HISTORY.md",
        "ChangeLog",
        "docs/migrating-to-3.0.0.md",
        "release notes/v1.md",
        "docs/release-notes.md",
    ],
    p.DOCS_SUPPORT: [
        "AUTHORS",
        "CONTRIBUTING.md",
        "docs/conf.py",
        "mkdocs.yml",
        ".github/ISSUE_TEMPLATE/bug.md",
        "docs/_static/site.css",
        "SECURITY.md",
        "docs/requirements.txt",
        "tests/README.md",
        "requirements/docs.txt",
    ],
    p.SOURCE: [
        "setup/run.py",
        "src/lib.rs",
        "a.go",
        "core/src/main/scala/kafka/Log.scala",
        "include/x.h",
        "bin/run.sh",
        "docker.py",
        "documents/model.py",
    ],
    p.TEST: [
        "tests/test_a.py",
        "pkg/a_test.go",
        "src/test/java/LogTest.java",
        "conftest.py",
        "web/a.spec.ts",
        "crates/x/resources/mdtest/a.py",
        "clients/src/main/java/PartitionerTest.java",
    ],
    p.EXAMPLE: ["examples/hello.py", "docs_src/first/app.py"],
    p.CONFIG: ["Makefile", "conf/server.properties", ".gitignore", "Dockerfile", "packaging/rpm/build.sh"],
    p.DEPENDENCIES: ["pyproject.toml", "requirements.txt", "requirements/test.txt", "go.mod"],
    p.CI: [".github/workflows/test.yml", ".travis.yml", ".pre-commit-config.yaml"],
    p.VENDORED: ["vendor/x/y.go", "uv.lock", "static/jquery.min.js", "api/v1.pb.go"],
    p.OTHER: ["logo.png", "data.bin"],
}


@pytest.mark.parametrize(("kind", "path"), [(kind, path) for kind, some in CASES.items() for path in some])
def test_a_path_has_the_class_that_a_reader_would_give_it(kind: int, path: str) -> None:
    assert p.path_class(path).kind == kind


def test_documentation_is_what_features_must_not_see() -> None:
    for kind, some in CASES.items():
        for path in some:
            assert p.counts_as_documentation(path) == (kind <= p.DOCS_SUPPORT)


def test_private_names_and_inner_folders_are_not_public() -> None:
    assert p.path_class("src/app/core.py").public
    assert p.path_class("src/app/__init__.py").public
    assert not p.path_class("src/app/_core.py").public
    assert not p.path_class("src/_internal/core.py").public
    assert not p.path_class("tests/test_core.py").public


def test_interface_is_public_source_with_a_telling_name() -> None:
    assert p.path_class("src/app/cli.py").interface
    assert p.path_class("cmd/serve.go").interface
    assert not p.path_class("src/app/parser.py").interface
    assert not p.path_class("src/_internal/cli.py").interface


@given(st.text(min_size=1, max_size=60))
def test_any_path_has_a_class_and_always_the_same(path: str) -> None:
    first = p.path_class(path)
    p._cache.clear()
    assert p.path_class(path) == first
    assert p.README <= first.kind <= p.OTHER


def test_the_cache_stays_within_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(p, "CACHE_MAX", 10)
    p._cache.clear()
    p._folders.clear()
    for number in range(35):
        p.path_class(f"folder{number}/file.py")
        assert len(p._cache) <= 10
        assert len(p._folders) <= 10
