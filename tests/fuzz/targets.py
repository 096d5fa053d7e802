"""Every decoder of the pipeline: messages, offsets' metadata, headers, and the files that people give."""

from __future__ import annotations

import gzip
import os
import tempfile
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from pointsman.models import trees
from pointsman.models.agents.documentation_keeper.git_history import _commit, parse
from pointsman.models.agents.documentation_keeper.history import HistoryError, read_commits
from pointsman.models.artifact import ModelArtifactError, load_card
from pointsman.schemas.codec import Decoder, encode
from pointsman.schemas.control import Flag
from pointsman.schemas.errors import InvalidMessage, InvalidSetting, PointsmanError
from pointsman.schemas.outcome import Escalation, Outcome, ShadowAnswer
from pointsman.schemas.request import DecisionRequest
from pointsman.schemas.summary import Summary
from pointsman.streams import live
from pointsman.streams.cli.failure import Usage
from pointsman.streams.cli.offline import answer, request
from pointsman.streams.cli.options import pairs
from pointsman.streams.decisions.duplicates import Answered
from pointsman.streams.decisions.remember import recalled
from pointsman.streams.decisions.tally import METADATA_BYTES_MAX, decode_metadata, encode_metadata
from pointsman.streams.decisions.trace import carry, trace_id
from pointsman.streams.decisions.validate import Rejected, Validator, letter
from pointsman.streams.feedback import check_feedback
from pointsman.streams.flags import Flags, apply
from pointsman.streams.local import decode as decode_running
from pointsman.streams.model.address import Address
from pointsman.streams.output import Headers
from pointsman.streams.settings import PREFIX, Settings, load
from pointsman.streams.store import feedback as feedback_rows
from pointsman.streams.store import truth
from pointsman.streams.store.batch import DeadLetter
from tests.builders import agent, record
from tests.fuzz.check import Target
from tests.fuzz.model_targets import MODEL_TARGETS

COLUMNS_MAX: Final = 1_000
VALIDATOR: Final = Validator({"small": agent(), "other": agent("other")}, 262_144)


def _json(value: Any) -> Any:
    """A message as plain JSON values: raw parts are parsed, so that messages can be compared."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _contract(type_: type[msgspec.Struct]) -> Target:
    decode = Decoder(type_).decode

    def plain(value: bytes) -> Any:
        return _json(decode(value))

    return Target(type_.__name__.lower(), plain, encode=msgspec.json.encode)


def _request(value: bytes) -> Any:
    """As the lane takes it; the key is the request's own, whatever it is."""
    try:
        found = Decoder(DecisionRequest).decode(value)
        key = (found.unit or found.id).encode()
    except InvalidMessage:
        key = b"r1"
    checked = VALIDATOR.check([record(value, key=key)], Answered(10, 60))
    for rejected in checked.rejected:
        assert letter(rejected, 262_144)
        raise rejected.error
    (accepted,) = [each for some in checked.accepted.values() for each in some]
    # As bytes: its raw part may hold numbers that nobody needs to read, of more digits than any reader takes.
    return encode(accepted.request), accepted.input


def _write_request(found: Any) -> bytes:
    written: bytes = found[0]
    return written


def _feedback(value: bytes) -> Any:
    """As the sink takes it, down to the rows."""
    try:
        known = msgspec.json.decode(value)
        key = str(known.get("unit") or known.get("decision_id")).encode()
    except (AttributeError, ValueError, RecursionError):
        key = b"r1"
    event = check_feedback(record(value, key=key))
    content = feedback_rows.personal(event)
    assert feedback_rows.content_row(event, b"salt", content)
    feedback_rows.kind_rows(event, b"commitment", authorised=False)
    truth.counted(truth.told_by(event, authorised=True), datetime(2026, 1, 1, tzinfo=UTC))
    return event


def _flag(value: bytes) -> Any:
    """As a follower takes it: it never fails, and what it took over it can show and send."""
    flags = Flags()
    apply(flags, value)
    found = flags.all()
    assert msgspec.json.decode(msgspec.json.encode(found), type=list[Flag]) == found
    return Decoder(Flag).decode(value)


def _summary(value: bytes) -> Any:
    """As the live tables take it: stored as JSON, added up, described."""
    summary = Decoder(Summary).decode(value)
    for arm in summary.arms:
        stored = msgspec.json.decode(msgspec.json.encode(live.dump(arm)))
        known = live.load(stored)
        assert known == arm
        live.merge(known, arm)
        msgspec.json.encode(live.describe(known))
    return summary


def _metadata(value: bytes) -> Any:
    """Whatever stands there is read as something, and what was read can be committed."""
    found = decode_metadata(value.decode("utf-8", "surrogateescape"))
    written = encode_metadata(found)
    assert len(written.encode()) <= METADATA_BYTES_MAX
    kept = decode_metadata(written)
    assert (kept.ledger, kept.token) == (found.ledger, found.token)
    assert kept.even.items() <= found.even.items()
    return kept


def _write_metadata(found: Any) -> bytes:
    return encode_metadata(found).encode()


def headers(value: bytes) -> Headers:
    """A header a line, ``name: value``; a line without a colon is a header whose value is null."""
    lines = (line.partition(b": ") for line in value.split(b"\n") if line)
    return [(name.decode("utf-8", "replace"), text if colon else None) for name, colon, text in lines]


def _trace(value: bytes) -> Any:
    given = headers(value)
    carried = carry(given)
    found = trace_id(given)
    assert trace_id(carried) == found
    assert (found is None) is (not carried)
    assert sum(len(text) for _, text in carried) < 5_000
    return found


def _dead_letter(value: bytes) -> Any:
    given = headers(value)
    made = letter(Rejected(record(b"x", headers=given), InvalidMessage("not_json", "value", "JSON")), 1_000)
    assert DeadLetter.from_headers(made[2]).reason == "not_json", (
        "a sender's header spoke in the letter's name"
    )
    return DeadLetter.from_headers(given)


def _write_dead_letter(found: Any) -> bytes:
    return b"\n".join(
        name.encode() + b": " + str(value).encode() for name, value in msgspec.structs.asdict(found).items()
    )


def _in_file(read: Callable[[Path], Any]) -> Callable[[bytes], Any]:
    """The decoder of a file, in a folder of its own whose name never shows in an error."""

    def decode(value: bytes) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "card.json"
            path.write_bytes(value)
            try:
                return read(path)
            except PointsmanError as error:
                error.args = tuple(str(each).replace(folder, "") for each in error.args)
                raise

    return decode


def _commits(path: Path) -> Any:
    """Each commit's request must be one that the agent takes."""
    return _checked_commits(read_commits(path))


def _gzipped_commits(value: bytes) -> Any:
    """The compressed form: an intact file of the value, and the value taken for a compressed one."""
    plain = _in_file(_commits)
    try:
        plain(b"\x1f\x8b" + value)
    except HistoryError:
        return plain(gzip.compress(value, mtime=0))
    raise AssertionError("a broken archive was read")


def _checked_commits(commits: Iterable[Any]) -> Any:
    found = list(commits)
    for commit in found:
        written = msgspec.json.encode(commit.request)
        assert Decoder(type(commit.request)).decode(written) == commit.request
        msgspec.json.encode(commit)
    return found


def _git_log(value: bytes) -> Any:
    """The tokens as git separates them."""
    return _checked_commits(_commit(entry, "a/b", {}, {}, set()) for entry in parse(value.split(b"\0")))


def _toml(path: Path) -> Any:
    return _shown(load({}, {}, str(path)).settings)


def _environment(value: bytes) -> Any:
    """A variable a line, its name without our prefix, with bytes that are no text as the system hands them over."""
    lines = (line.partition(b"=") for line in value.replace(b"\0", b"").split(b"\n") if line)
    environ = {PREFIX + os.fsdecode(name).upper(): os.fsdecode(text) for name, _, text in lines}
    environ.pop(f"{PREFIX}CONFIG", None)
    return _shown(load({}, environ).settings)


def _options(value: bytes) -> Any:
    given = [os.fsdecode(line) for line in value.split(b"\n") if line]
    return _shown(load(pairs(given), {}).settings)


def _shown(settings: Settings) -> Any:
    """What a worker does with them before anything else: hands them on to its processes."""
    return msgspec.json.decode(msgspec.json.encode(settings), type=Settings)


def _decide(value: bytes) -> Any:
    """As `pointsman decide` does, model aside, whose cost is not the decoder's."""
    chosen, input_ = request(Settings(), value, None)
    found = answer(Settings(), _without_model(chosen), input_)
    return _json({**found, "versions": None})


def _without_model(chosen: Any) -> Any:
    from dataclasses import replace

    return replace(chosen, model=None)


def _trees(value: bytes) -> Any:
    """As the model process takes them: loaded, and asked, which is native code."""
    loaded = trees.load(value)
    columns = loaded.n_features_in_
    if columns > COLUMNS_MAX:  # nobody's rows have so many: the file only says so
        return columns
    matrix = np.array([[number] * columns for number in (0.0, 0.5, -1e300, np.nan)])
    with np.errstate(all="ignore"):
        return columns, loaded.predict_proba(matrix).tobytes()


def _url(value: bytes) -> Any:
    return Address.parse(os.fsdecode(value))


MESSAGES: Final = (
    Target("request", _request, encode=_write_request),
    Target("feedback", _feedback, encode=encode),
    Target("flag", _flag, encode=encode),
    _contract(Outcome),
    Target("shadow", lambda value: _json(Decoder(ShadowAnswer).decode(value)), encode=msgspec.json.encode),
    _contract(Escalation),
    Target("summary", _summary, encode=encode),
    Target("remembered", recalled),
    Target("offset-metadata", _metadata, encode=_write_metadata),
    Target("trace-headers", _trace),
    Target("dead-letter", _dead_letter, encode=_write_dead_letter),
)
FILES: Final = (
    Target("card", _in_file(lambda path: load_card(path.parent)), (ModelArtifactError,)),
    Target("settings-toml", _in_file(_toml), (InvalidSetting,)),
    Target("settings-environment", _environment, (InvalidSetting,)),
    Target("settings-options", _options, (InvalidSetting, Usage)),
    Target("commits", _in_file(_commits), (HistoryError,)),
    Target("commits-gzip", _gzipped_commits, (HistoryError,)),
    Target("git-log", _git_log, (HistoryError,)),
    Target("decide", _decide),
    Target("model-url", _url, (InvalidSetting,), encode=lambda found: os.fsencode(str(found))),
    Target("running", decode_running),
    Target("trees", _trees, (ValueError,)),
)
TARGETS: Final = {target.name: target for target in (*MESSAGES, *FILES, *MODEL_TARGETS)}
