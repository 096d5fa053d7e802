"""`OutcomeWriter`: outcomes as bytes, from parts that are encoded once for many.

A batch shares agent, flag, versions and clock, and the rules give the same answers again and again; what differs
from request to request is a fifth of the bytes. The contract stays `Outcome`: what is written here equals its
encoding byte for byte, which a test holds true for any content.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple, get_args

import msgspec
from msgspec import UNSET, UnsetType

from pointsman.models.decider import Row
from pointsman.schemas.control import Flag
from pointsman.schemas.latency import bucket
from pointsman.schemas.outcome import Action, Answer, FlagState, History, Reached
from pointsman.schemas.retry import Assigned
from pointsman.streams.decisions.known import Known, Served
from pointsman.streams.decisions.runtime import Runtime
from pointsman.streams.decisions.validate import Accepted
from pointsman.streams.output import Record

_encode = msgspec.json.Encoder().encode

_NULL: Final = b"null"
_ACTIONS: Final = {
    action: b'"action":"%b","needs_review":%b,"fallback_reason":'
    % (action.encode(), b"true" if action == "escalate" else b"false")
    for action in get_args(Action)
}


class Waited(NamedTuple):
    """How long a request waited; the same for all of a batch with the same record time."""

    ms: float
    bucket: int
    part: bytes


class Moment:
    """When outcomes are decided: what all that are written at one time have in common, whatever agents they are of."""

    def __init__(self, now: datetime) -> None:
        """``now``: UTC."""
        self.now = now
        self.part = b',"decided_at":%b,"timings":{"total_ms":' % _encode(now)
        self.unrequested = b',"requested_at":null' + self.part
        self._ms = now.timestamp() * 1000
        self.known: dict[int, Waited] = {}
        """By record time, what `waited` has said."""

    def waited(self, timestamp: int) -> Waited:
        """From a record's time (milliseconds) until now."""
        # Old producers write no time (-1), and a clock may run ahead: neither is a latency of years or below 0.
        ms = max(0.0, round(self._ms - timestamp, 3)) if timestamp > 0 else 0.0
        waited = self.known[timestamp] = Waited(ms, bucket(ms), _encode(ms))
        return waited


class OutcomeWriter:
    """Writes the outcomes of one agent's part of a batch."""

    def __init__(
        self,
        runtime: Runtime,
        flag: Flag | Assigned | None,
        *,
        features_ms: float,
        model_ms: float | None,
        reached: int | None = None,
    ) -> None:
        """``reached``: the offset of the feedback up to which an agent with state had learned; None for one without."""
        parts = runtime.parts
        self.approval = parts.approval
        state = FlagState(
            name=runtime.agent.flag,
            percentage=flag.percentage if flag else 0.0,
            version=flag.version if flag else 0,
        )
        self._agent, self._status = parts.agent, parts.status
        self._versions = b'},"flag":%b%b' % (_encode(state), parts.versions)
        self._features_ms = b',"features_ms":%b' % _encode(features_ms)
        self._model_ms = b',"model_ms":%b' % _encode(model_ms) if model_ms is not None else b""
        self._action = runtime.action
        self._named = runtime.named
        last = b"" if reached is None else b',"state":%b' % _encode(Reached(feedback_offset=reached))
        last += b',"schema_version":1}'
        self._end = b'%d},"content_hash":"%016x"' + last
        self._last = last
        self._places: dict[tuple[bool, str, int], bytes] = {}
        self._texts: dict[tuple[str, str, Action], tuple[bytes, bytes]] = {}

    def by_control(self, known: Known) -> Served:
        """What an outcome of the control says of the rules' answer, from now on known."""
        served = known.control = self._serve(known.answer, b'"deterministic","arm":"control"')
        return served

    def by_candidate(self, known: Known, fallback: str | None) -> Served:
        """What an outcome of the candidate says of the rules' answer, which it serves for want of the model's."""
        if known.candidate is not None and known.candidate[0] == fallback:
            return known.candidate[1]
        served = self._serve(known.answer, b'"deterministic","arm":"candidate"', fallback)
        known.candidate = fallback, served
        return served

    def by_model(self, answer: Answer) -> Served:
        """What an outcome of the candidate says of the model's answer."""
        confidence = answer.confidence
        action = self._action(confidence)
        texts = self._texts.get((answer.prediction, answer.reason, action))
        if texts is None:
            texts = self._around(answer, b'"ml","arm":"candidate"', action)
            self._texts[answer.prediction, answer.reason, action] = texts
        return Served(b"%b%b%b" % (texts[0], _encode(confidence), texts[1]), action)

    def write(
        self,
        accepted: Accepted,
        row: Row,
        candidate: bool,
        rules: Known,
        ml: Answer | None,
        served: Served,
        moment: Moment,
        waited: Waited,
        history: History | UnsetType = UNSET,
    ) -> bytes:
        """The JSON of an `Outcome`."""
        request, record = accepted.request, accepted.record
        unit, at = request.unit, request.requested_at
        place = self._places.get((candidate, record.topic, record.partition))
        end = record.offset, accepted.content_hash
        return b"".join(
            (
                b'{"decision_id":',
                _encode(request.id),
                self._agent,
                _NULL if unit is None else _encode(unit),
                served.part,
                rules.encoded,
                b"" if ml is None else b',"ml":' + _encode(ml),
                self._versions,
                _encode(self._named(*row)),
                b',"input":',
                request.input,
                moment.unrequested if at is None else b',"requested_at":%b%b' % (_encode(at), moment.part),
                waited.part,
                self._timings(candidate, record) if place is None else place,
                self._end % end if history is UNSET else self._told(*end, history),
            )
        )

    def _told(self, offset: int, content_hash: int, history: History) -> bytes:
        """The end of an outcome whose request was tried or sent before."""
        told = (offset, content_hash, _encode(history), self._last)
        return b'%d},"content_hash":"%016x","history":%b%b' % told

    def _timings(self, candidate: bool, record: Record) -> bytes:
        """The rest of the timings, and the place but for its offset. A request of the control waited for no model."""
        place = b'{"topic":%b,"partition":%d,"offset":' % (_encode(record.topic), record.partition)
        model = self._model_ms if candidate else b""
        part = b'%b%b},"place":%b' % (self._features_ms, model, place)
        self._places[candidate, record.topic, record.partition] = part
        return part

    def _serve(self, answer: Answer, source: bytes, fallback: str | None = None) -> Served:
        action = self._action(answer.confidence)
        front, back = self._around(answer, source, action, fallback)
        return Served(b"%b%b%b" % (front, _encode(answer.confidence), back), action)

    def _around(
        self, answer: Answer, source: bytes, action: Action, fallback: str | None = None
    ) -> tuple[bytes, bytes]:
        """What an outcome says of the answer that it serves, before and behind its confidence."""
        return (
            b'%b%b,"prediction":%b,"confidence":' % (self._status, source, _encode(answer.prediction)),
            b',"reason":%b,%b%b,"answers":{"rules":'
            % (_encode(answer.reason), _ACTIONS[action], _NULL if fallback is None else _encode(fallback)),
        )
