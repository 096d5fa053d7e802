"""Path to path class: what kind of file a path names, and whether it counts as documentation.

Documentation is the truth that this agent predicts. So these classes decide the label, and the features
skip every file that falls in one of them, in training and in serving alike.
"""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

README: Final = 0
DOCS: Final = 1
CHANGELOG: Final = 2
DOCS_SUPPORT: Final = 3
"""Beside the documentation, not documentation itself: its tooling, credits, contributing notes."""
SOURCE: Final = 4
TEST: Final = 5
EXAMPLE: Final = 6
CONFIG: Final = 7
DEPENDENCIES: Final = 8
CI: Final = 9
VENDORED: Final = 10
"""Copied in or generated: says nothing about this change."""
OTHER: Final = 11

LAST_DOCUMENTATION: Final = DOCS_SUPPORT
"""Classes up to this one are kept out of features."""

CACHE_MAX: Final = 32_768
"""Paths kept: several large repositories at once, about 10 MB; then the cache starts over."""


class PathClass(NamedTuple):
    """What a path says by itself. ``kind`` is one of the constants above."""

    kind: int
    public: bool
    """Source that users of the project may meet: not private by name, nor in an internal folder."""
    interface: bool
    """Source whose name promises a surface: command line, options, settings, routes, rules, package roots."""
    directory: str
    """With a slash at its end; that alone is the top. The same object for all paths in it: what many share stays in the processor's caches."""
    levels: int
    """Slashes between the directory's names."""


_Plain: TypeAlias = tuple[int, bool, bool, str, int]

_SOURCE_SUFFIXES: Final = frozenset(
    "c cc cpp cxx h hh hpp py pyi pyx pxd go rs js jsx mjs cjs ts tsx java scala kt kts rb php swift cs m mm "  # noqa: SIM905
    "sh bash zsh fish ps1 pl lua vue svelte html htm css scss sass less sql proto y l asm s ex exs erl clj".split()
)
_PROSE_SUFFIXES: Final = frozenset("md mdx rst adoc asciidoc markdown textile rdoc".split())  # noqa: SIM905
_DOCS_SUFFIXES: Final = frozenset({"", "txt", "html", "htm", "ipynb", "inc", "tpl"})
_CONFIG_SUFFIXES: Final = frozenset(
    "toml yaml yml json json5 ini cfg conf properties xml gradle cmake env".split()  # noqa: SIM905
)

_DOCS_FOLDERS: Final = frozenset(
    {"doc", "docs", "documentation", "website", "man", "user-guide", "userguide"}
)
_CHANGELOG_FOLDERS: Final = frozenset(
    {
        "changes",
        "changelog",
        "changelogs",
        "newsfragments",
        "news",
        "release notes",
        "release-notes",
        "changelog.d",
    }
)
_TEST_FOLDERS: Final = frozenset(
    {
        "test",
        "tests",
        "testing",
        "testsuite",
        "testserver",
        "__tests__",
        "testdata",
        "fixtures",
        "spec",
        "specs",
    }
    | {
        "t",
        "e2e",
        "mdtest",
        "snapshots",
        "__snapshots__",
        "integration-test",
        "integration_tests",
        "teststorage",
    }
    | {"jmh-benchmarks", "benchmark", "benchmarks"}
)
_EXAMPLE_FOLDERS: Final = frozenset(
    {"example", "examples", "docs_src", "samples", "demo", "demos", "tutorial", "playground"}
)
_CI_FOLDERS: Final = frozenset(
    {".github", ".circleci", ".semaphore", ".travis", ".gitlab", ".buildkite", ".azure", ".ci", "ci"}
)
_BUILD_FOLDERS: Final = frozenset({"packaging", "build-tools", "gradle", "mklove", "committer-tools"})
_ASSISTANT_FOLDERS: Final = frozenset({".agents", ".claude", ".cursor"})
"""Notes for coding assistants: prose, and no documentation of the project."""
_VENDORED_FOLDERS: Final = frozenset(
    {"vendor", "vendored", "third_party", "thirdparty", "node_modules", "dist", "generated", "_vendor"}
)
_INTERNAL_FOLDERS: Final = frozenset("internal internals _internal private utils util tools".split())  # noqa: SIM905

_CHANGELOG_STEMS: Final = frozenset(
    {"changelog", "changes", "history", "news", "whatsnew", "releases", "upgrading", "upgrade", "migration"}
    | {"release-notes", "release_notes", "releasenotes", "migrate", "migrating", "changelog-archive"}
)
_SUPPORT_STEMS: Final = frozenset(
    {
        "authors",
        "contributors",
        "credits",
        "thanks",
        "maintainers",
        "contributing",
        "code_of_conduct",
        "security",
    }
    | {
        "license",
        "licence",
        "copying",
        "notice",
        "governance",
        "agents",
        "claude",
        "skill",
        "todo",
        "roadmap",
    }
    | {"support", "issue_template", "pull_request_template", "citation", "codeowners", "code-of-conduct"}
    | {"ai_policy", "release", "releasing", "release-checklist"}
)
_CONTRIBUTOR_STEMS: Final = frozenset(
    {"authors", "contributors", "contributing", "maintainers", "governance", "sponsors", "license"}
    | {"code-of-conduct", "credits"}
)
"""The ones among them that stay outside of the documentation even in a docs tree."""
_SUPPORT_NAMES: Final = frozenset(
    {"mkdocs.yml", "mkdocs.yaml", ".readthedocs.yml", ".readthedocs.yaml", "readthedocs.yml", "book.toml"}
    | {
        "mkdocs.insiders.yml",
        "mkdocs.template.yml",
        ".mailmap",
        "requirements-docs.txt",
        "requirements-doc.txt",
    }
    | {"requirements-docs-tests.txt", "doxyfile", "antora.yml", "netlify.toml", "docusaurus.config.js"}
)
_DEPENDENCY_NAMES: Final = frozenset(
    {
        "pyproject.toml",
        "setup.py",
        "setup.cfg",
        "package.json",
        "go.mod",
        "cargo.toml",
        "pom.xml",
        "build.gradle",
    }
    | {"pipfile", "gemfile", "build.sbt", "dependencies.gradle", "environment.yml", "tox.ini", "noxfile.py"}
)
_LOCK_NAMES: Final = frozenset(
    {"go.sum", "cargo.lock", "package-lock.json", "yarn.lock", "poetry.lock", "uv.lock", "pnpm-lock.yaml"}
    | {"pipfile.lock", "gemfile.lock", "npm-shrinkwrap.json", "pdm.lock"}
)
_CI_NAMES: Final = frozenset(
    {".travis.yml", "appveyor.yml", ".appveyor.yml", ".pre-commit-config.yaml", "jenkinsfile", "codecov.yml"}
    | {".codecov.yml", ".gitlab-ci.yml", ".cirrus.yml", "azure-pipelines.yml", "renovate.json", ".coveragerc"}
)
_BUILD_NAMES: Final = frozenset(
    {"makefile", "dockerfile", "cmakelists.txt", "configure", "rakefile", "justfile", "makefile.js"}
    | {"version.py", "__version__.py", "version.go", "eslint.config.js", ".eslintrc.js"}
)
_INTERFACE_STEMS: Final = frozenset(
    {
        "__init__",
        "__main__",
        "api",
        "apis",
        "app",
        "cli",
        "main",
        "options",
        "option",
        "config",
        "configuration",
    }
    | {
        "settings",
        "conf",
        "flags",
        "args",
        "argument",
        "arguments",
        "params",
        "parameters",
        "routing",
        "router",
    }
    | {
        "routes",
        "lib",
        "mod",
        "index",
        "public",
        "client",
        "server",
        "web",
        "defs",
        "codes",
        "types",
        "models",
    }
    | {"decorators", "exceptions", "errors", "middleware", "applications", "rdkafka", "rdkafka_conf", "core"}
)
_INTERFACE_FOLDERS: Final = frozenset(
    {
        "cmd",
        "cli",
        "api",
        "bin",
        "commands",
        "rules",
        "config",
        "conf",
        "options",
        "middleware",
        "public",
        "routes",
    }
)


class _Folder(NamedTuple):
    path: str
    levels: int
    names: frozenset[str]
    in_docs: bool
    """Inside a docs tree, which does not itself lie among tests or examples."""
    tried: bool
    """Among tests or examples, outside of a docs tree."""
    private: bool


_cache: dict[str, _Plain] = {}
_classes: dict[_Plain, _Plain] = {}
"""Equal ones as one object: what lies side by side is mostly alike, and stays in the processor's caches."""
known: Final = _cache.get
"""`plain` without its call: None where nothing is cached."""
_folders: dict[str, _Folder] = {}


def path_class(path: str) -> PathClass:
    """The class of a path with forward slashes; constant for a path, cached."""
    return PathClass(*plain(path))


def plain(path: str) -> _Plain:
    """The same as a tuple without names, which the interpreter takes apart in half the time."""
    found = _cache.get(path)
    if found is None:
        if len(_cache) >= CACHE_MAX:
            _cache.clear()
            _classes.clear()
        found = _classify(path)
        found = _cache[path] = _classes.setdefault(found, found)
    return found


def counts_as_documentation(path: str) -> bool:
    """Whether features must not see this path."""
    return path_class(path).kind <= LAST_DOCUMENTATION


def _classify(path: str) -> _Plain:
    directory, _, file_name = path.rpartition("/")
    folder = _folder(directory)
    name = file_name.lower()
    stem, _, suffix = name.rpartition(".") if "." in name[1:] else (name, "", "")
    kind = _kind(folder, name, stem, suffix)
    public = kind == SOURCE and not folder.private and (not stem.startswith("_") or stem.startswith("__"))
    surface = (
        stem in _INTERFACE_STEMS or suffix in ("h", "hpp") or not _INTERFACE_FOLDERS.isdisjoint(folder.names)
    )
    return kind, public, public and surface, folder.path, folder.levels


def _folder(directory: str) -> _Folder:
    """What a directory's name says, cached: most files of a commit share theirs."""
    found = _folders.get(directory)
    if found is None:
        if len(_folders) >= CACHE_MAX:
            _folders.clear()
        found = _folders[directory] = _read_folder(directory)
    return found


def _read_folder(directory: str) -> _Folder:
    names = directory.lower().split("/") if directory else []
    docs = next((i for i, name in enumerate(names) if name in _DOCS_FOLDERS), len(names))
    tried = any(name in _TEST_FOLDERS or name in _EXAMPLE_FOLDERS for name in names[:docs])
    private = any(name.startswith("_") or name in _INTERNAL_FOLDERS for name in names)
    in_docs = docs < len(names) and not tried
    return _Folder(f"{directory}/", directory.count("/"), frozenset(names), in_docs, tried, private)


def _kind(folder: _Folder, name: str, stem: str, suffix: str) -> int:
    """The first that fits, from what is most certain to what is least."""
    names = folder.names
    if not _VENDORED_FOLDERS.isdisjoint(names) or name in _LOCK_NAMES or name.endswith((".min.js", ".pb.go")):
        return VENDORED
    documentation = _documentation_kind(folder, name, stem, suffix)
    if documentation is not None:
        return documentation
    if not _CI_FOLDERS.isdisjoint(names) or name in _CI_NAMES:
        return CI
    if _is_test(names, name, stem):
        return TEST
    if not _EXAMPLE_FOLDERS.isdisjoint(names):
        return EXAMPLE
    return _code_kind(names, name, suffix)


def _documentation_kind(folder: _Folder, name: str, stem: str, suffix: str) -> int | None:  # noqa: PLR0911
    """One of the four documentation classes, or None."""
    prose = suffix in _PROSE_SUFFIXES or suffix in ("", "txt", "html")
    if name in _SUPPORT_NAMES or not _ASSISTANT_FOLDERS.isdisjoint(folder.names):
        return DOCS_SUPPORT
    if prose and stem in (_CONTRIBUTOR_STEMS if folder.in_docs else _SUPPORT_STEMS):
        return DOCS_SUPPORT
    if not _CI_FOLDERS.isdisjoint(folder.names):
        return DOCS_SUPPORT if prose and suffix else None
    if stem.startswith("readme") and (suffix == "html" or suffix not in _SOURCE_SUFFIXES):
        return DOCS_SUPPORT if folder.tried else README
    if prose and _is_changelog(stem, folder.in_docs):
        return CHANGELOG
    if not _CHANGELOG_FOLDERS.isdisjoint(folder.names) and suffix not in _SOURCE_SUFFIXES:
        return CHANGELOG
    if folder.in_docs:
        return _in_docs_tree(name, suffix)
    if "requirements" in folder.names and stem in ("doc", "docs"):
        return DOCS_SUPPORT
    if suffix in _PROSE_SUFFIXES:
        return DOCS_SUPPORT if folder.tried else DOCS
    return None


def _is_changelog(stem: str, in_docs: bool) -> bool:
    """Inside a docs tree any page about upgrading is one; outside, only the usual names."""
    if stem in _CHANGELOG_STEMS or stem.startswith(("changelog", "whatsnew", "release-notes")):
        return True
    return in_docs and stem.startswith(("upgrade-", "upgrading-", "migrate-", "migrating-", "migration-"))


def _in_docs_tree(name: str, suffix: str) -> int:
    """Text in a docs tree is documentation; its scripts, data, pictures and styles stand beside it."""
    if name in ("makefile", "dockerfile", "requirements.txt", "cmakelists.txt") or name.startswith(
        (".", "_")
    ):
        return DOCS_SUPPORT
    text = suffix in _PROSE_SUFFIXES or suffix in _DOCS_SUFFIXES or suffix.isdigit()
    return DOCS if text else DOCS_SUPPORT


def _is_test(folders: frozenset[str], name: str, stem: str) -> bool:
    if not _TEST_FOLDERS.isdisjoint(folders):
        return True
    return (
        stem.startswith(("test_", "tests_"))
        or stem.endswith(("_test", "_tests", ".test", ".spec", "_spec", "-test"))
        or name in ("conftest.py", "tests.py")
        or (name.endswith((".java", ".scala", ".kt")) and stem.endswith(("test", "tests", "it")))
    )


def _code_kind(folders: frozenset[str], name: str, suffix: str) -> int:
    if (
        name in _DEPENDENCY_NAMES
        or "requirements" in folders
        or (name.startswith("requirements") and suffix == "txt")
    ):
        return DEPENDENCIES
    if name in _BUILD_NAMES or not _BUILD_FOLDERS.isdisjoint(folders):
        return CONFIG
    if suffix in _SOURCE_SUFFIXES:
        return SOURCE
    if suffix in _CONFIG_SUFFIXES or name.startswith("."):
        return CONFIG
    return OTHER
