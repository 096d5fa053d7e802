"""What a subject line says about a change, with every word about documentation masked."""

from __future__ import annotations

import re
from string import ascii_letters
from typing import Final

MASK: Final = "_"

_DOCUMENTATION_WORDS: Final = frozenset(
    "doc docs docu document documents documented documenting documentation documentations undocumented docstring "  # noqa: SIM905
    "docstrings doctest doctests readme readmes changelog changelogs whatsnew newsfragment newsfragments towncrier "
    "rst md mdx adoc asciidoc markdown sphinx mkdocs docusaurus readthedocs rtd autodoc apidoc apidocs javadoc "
    "javadocs scaladoc godoc jsdoc rustdoc docblock tutorial tutorials guide guides userguide quickstart howto faq "
    "manual manpage manpages man website typo typos wording grammar spelling misspelling misspellings reword "
    "rewording clarify clarifies translation translations translate translated example examples glossary blog "
    "authors contributors contributing credits license release_notes notes".split()
)
_EMOJI: Final = re.compile(
    "[\N{MEMO}\N{PENCIL}\N{BOOKS}\N{OPEN BOOK}\N{GLOBE WITH MERIDIANS}\N{PAGE FACING UP}]\ufe0f?"
)
_WORD: Final = re.compile(r"[A-Za-z]+")

FIX: Final = 1
FEATURE: Final = 2
SETTING: Final = 4
INTERFACE: Final = 8
UPKEEP: Final = 16
RELEASE: Final = 32
CHANGE: Final = 64

_GROUPS: Final[dict[int, str]] = {
    FIX: "fix fixes fixed fixing bug bugs bugfix hotfix issue issues avoid avoids ensure ensures handle handles "
    "handling crash crashes regression prevent prevents correct correctly wrong missing leak race deadlock panic "
    "invalid broken",
    FEATURE: "add adds added adding new feat feature features support supports supported implement implements "
    "implemented implementation introduce introduces allow allows allowed enable enables provide expose exposes",
    SETTING: "option options setting settings flag flags config configs configuration configurable parameter "
    "parameters param params argument arguments arg args kwarg timeout default defaults max min limit env "
    "environment variable enabled disabled disable",
    INTERFACE: "api apis cli command commands public method methods class decorator hook hooks callback plugin "
    "extension endpoint protocol rule rules async syntax interface helper signature property",
    UPKEEP: "refactor refactors refactoring refactored cleanup clean simplify simplifies internal internals tidy "
    "minor test tests testing coverage flaky typing type types annotations mypy flake lint linter linting ruff "
    "format formatting style ci chore build perf performance optimize speed reduce dedupe unused whitespace "
    "nit logging log logs debug",
    RELEASE: "bump bumps release releases version versions backport prepare upgrade upgrades merge cherry pick "
    "dependency dependencies deps requirements",
    CHANGE: "rename renames renamed remove removes removed removal drop drops dropped deprecate deprecates "
    "deprecated deprecation replace replaces breaking change changes changed move moves moved update updates "
    "updated migrate require requires required",
}
MASKED: Final = 128
"""Marks a documentation word in the table; never in an answer of `signals`."""

_BITS: Final[dict[bytes, int]] = {word.encode(): MASKED for word in _DOCUMENTATION_WORDS}
for _bit, _words in _GROUPS.items():
    for _word in _words.encode().split():
        _BITS[_word] = _BITS.get(_word, 0) | _bit

_FIRST_MAX: Final = 40
"""Letters among which the first word is looked for."""
_LETTERS: Final = bytes(ord(chr(i).lower()) if chr(i) in ascii_letters else 32 for i in range(256))
"""For `bytes.translate`: ASCII letters in lower case, a space for every other byte."""


def signals(subject: str) -> tuple[int, int]:
    """Which groups of words occur, as bits, and how many words there are; masked words count for nothing."""
    # Bytes, because their translate is five times as fast as that of str.
    words = subject.encode("utf-8", "replace").translate(_LETTERS).split()
    bits = 0
    count = len(words)
    for found in filter(None, map(_BITS.get, words)):
        if found >= MASKED:
            count -= 1
        else:
            bits |= found
    return bits, count


def first_word(subject: str) -> str:
    """In lower case, if it is none that is masked; else nothing. Many projects begin with a scope or a kind."""
    for word in subject[:_FIRST_MAX].encode("utf-8", "replace").translate(_LETTERS).split(None, 1)[:1]:
        return "" if _BITS.get(word, 0) >= MASKED else word.decode()
    return ""


def mask(subject: str) -> str:
    """The subject with every documentation word replaced by ``_``; `signals` does not change by it."""
    return _EMOJI.sub(MASK, _WORD.sub(_masked, subject))


def _masked(match: re.Match[str]) -> str:
    return MASK if match[0].lower() in _DOCUMENTATION_WORDS else match[0]
