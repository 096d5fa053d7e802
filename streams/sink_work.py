"""What the sink makes of one partition's records: a batch for the database, dead letters for what broke its contract."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka import TopicPartition

from pointsman.schemas.codec import Decoder
from pointsman.schemas.errors import InvalidMessage
from pointsman.schemas.feedback import Feedback, kinds
from pointsman.schemas.outcome import Outcome, ShadowAnswer
from pointsman.schemas.signature import signed
from pointsman.schemas.summary import Summary
from pointsman.streams import metrics
from pointsman.streams.decisions.trace import trace_id
from pointsman.streams.decisions.validate import Rejected, letter
from pointsman.streams.feedback import check_feedback
from pointsman.streams.output import Committed, Output, Record
from pointsman.streams.partition import Work
from pointsman.streams.store.batch import DeadLetter, SinkBatch
from pointsman.streams.store.truth import SIGNED
from pointsman.streams.topics import Names
from pointsman.streams.unreadable import error_of

logger = logging.getLogger(__name__)

LANE: Final = "sink"

_outcome = Decoder(Outcome)
_shadow = Decoder(ShadowAnswer)
_summary = Decoder(Summary)


class SinkWork(Work):
    """Decodes one partition's records; what cannot be decoded is reported and passed over."""

    def __init__(
        self,
        tp: TopicPartition,
        names: Names,
        cluster: str,
        dead_letter_partitions: int,
        bytes_max: int,
        generation: str = "",
        feedback_keys: Mapping[str, str] = {},
    ) -> None:
        """``generation``: Kafka's id of the topic; ``feedback_keys``: by sender, of those that may report violations."""
        self._tp = tp
        self._generation = generation
        self._names = names
        self._cluster = cluster
        self._dead_letter_partitions = dead_letter_partitions
        self._bytes_max = bytes_max
        self._feedback_keys = feedback_keys
        self._position: int | None = None
        self._decode: Mapping[str, Callable[[list[Record], Output], dict[str, Any]]] = {
            names.outcomes: self._outcomes,
            names.shadows: self._shadows,
            names.feedback: self._feedback,
            names.summaries: self._summaries,
            names.dead_letters: self._dead_letters,
        }

    async def restore(self, committed: Committed) -> None:
        """Go on from the stored position."""
        self._position = committed.positions[self._tp]

    def due(self) -> float | None:
        """Nothing to publish by itself."""
        return None

    async def close(self) -> None:
        """Holds nothing."""

    async def process(self, batch: dict[TopicPartition, list[Record]], *, final: bool) -> Output:  # noqa: ARG002
        """A database batch, and dead letters for feedback that broke its contract."""
        records = batch.get(self._tp)
        if not records:
            return Output()
        output = Output()
        start = records[0].offset if self._position is None else self._position
        end = records[-1].offset + 1
        decoded = self._decode[self._tp.topic](records, output)
        output.positions = {self._tp: end}
        output.payload = SinkBatch(
            lane=LANE,
            cluster=self._cluster,
            topic=self._tp.topic,
            topic_generation=self._generation,
            partition=self._tp.partition,
            start=start,
            end=end,
            **decoded,
        )

        def keep() -> None:
            self._position = end

        output.keep = keep
        return output

    def _outcomes(self, records: list[Record], _output: Output) -> dict[str, Any]:
        good = [(self._try(_outcome, record), trace_id(record.headers)) for record in records]
        kept = [(outcome, trace) for outcome, trace in good if outcome is not None]
        return {"outcomes": [outcome for outcome, _ in kept], "trace_ids": [trace for _, trace in kept]}

    def _shadows(self, records: list[Record], _output: Output) -> dict[str, Any]:
        return {"shadows": [each for record in records if (each := self._try(_shadow, record)) is not None]}

    def _summaries(self, records: list[Record], _output: Output) -> dict[str, Any]:
        found = [self._try(_summary, record) for record in records]
        return {"summaries": [each for each in found if each is not None and each.ledger is not None]}

    def _feedback(self, records: list[Record], output: Output) -> dict[str, Any]:
        good, authorised, letters = [], [], []
        for record in records:
            try:
                event = check_feedback(record)
                good.append(event)
                authorised.append(self._authorised(event, record))
            except InvalidMessage as error:
                found = error_of(record, error)
                metrics.DEAD_LETTERS.labels(LANE, found.reason).inc()
                letters.append(letter(Rejected(record, found), self._bytes_max))
        partition = self._tp.partition % self._dead_letter_partitions
        output.add(self._names.dead_letters, partition, letters)
        return {"feedback": good, "authorised": authorised}

    def _authorised(self, event: Feedback, record: Record) -> bool:
        """Whether its sender may report violations, and proves that it is the one that it says."""
        key = self._feedback_keys.get(event.sender)
        if key is not None and signed(key, record.value or b"", record.headers):
            return True
        for kind in sorted(SIGNED & kinds(event).keys()):
            metrics.UNSIGNED.labels(kind).inc()
            place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
            logger.warning("not counted: not signed by who may report it", extra={**place, "kind": kind})
        return False

    def _dead_letters(self, records: list[Record], _output: Output) -> dict[str, Any]:
        letters = []
        for record in records:
            try:
                letters.append(DeadLetter.from_headers(record.headers))
            except InvalidMessage as error:
                self._foreign(record, str(error))
        return {"dead_letters": letters}

    def _try(self, decoder: Decoder[Any], record: Record) -> Any:
        try:
            return decoder.decode(record.value or b"")
        except InvalidMessage as error:
            self._foreign(record, str(error))
            return None

    def _foreign(self, record: Record, error: str) -> None:
        """Only Pointsman writes to these topics; what cannot be read came from somebody else."""
        metrics.FOREIGN.labels(record.topic).inc()
        place = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
        logger.error("not a message of ours; passed over", extra={**place, "error": error})
