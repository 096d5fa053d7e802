"""When the label of a commit is known: a history as requests and labels, in the order in which a lane would get them.

A label says whether the commit's landing unit (pull request, merge) touches a README or the docs. That it does is known
with the first of its commits that does, and from then on; that it does not, only when its last commit was made. So a
later commit of a landing may be asked about while it is known that the landing has documentation, as it would be in a
repository in which every commit is asked about when it is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from pointsman.models.agents.documentation_keeper.history import Commit
from pointsman.models.agents.documentation_keeper.measure import NEEDED
from pointsman.models.replay import Asked, Event
from pointsman.models.state import Told

_Landing: TypeAlias = tuple[str, str]


def known(commits: Sequence[Commit], *, late: bool = False) -> Iterator[list[int]]:
    """For each commit, in order: the places of the decisions whose label is known once it is made, and was not before.

    Commits of a repository stand in their order, with those outside of the domain, whose documentation may be what a
    label speaks of. Every commit in the domain comes in one list, its own or a later one. ``late``: no label before its
    landing is over, which shows how much the earlier ones are worth.
    """
    ahead = Counter((commit.repository, commit.land) for commit in commits)
    waiting: dict[_Landing, list[int]] = {}
    documented: set[_Landing] = set()
    for place, commit in enumerate(commits):
        landing = (commit.repository, commit.land)
        if commit.in_domain:
            waiting.setdefault(landing, []).append(place)
        if commit.documents and commit.truth == NEEDED and not late:
            documented.add(landing)
        ahead[landing] -= 1
        yield [] if ahead[landing] and landing not in documented else waiting.pop(landing, [])


def events(commits: Sequence[Commit], *, late: bool = False) -> Iterator[Event]:
    """Commits of the domain as requests, each followed by the labels that are known once it is made.

    The repository is the unit. ``late``: as of `known`.
    """
    for place, told in enumerate(known(commits, late=late)):
        commit = commits[place]
        at = commit.committed_at.timestamp()
        if commit.in_domain:
            yield Asked(decision_id(commit, place), commit.repository, at, commit.request)
        for each in told:
            yield Told(decision_id(commits[each], each), commits[each].truth, at)


def decision_id(commit: Commit, place: int) -> str:
    """Of the commit at that place: a sha may come twice, in two repositories."""
    return f"{commit.sha}-{place}"
