"""The database: migrations, the exactly-once writer of the sink lane, and what reads it."""

from pointsman.streams.store.audit import AuditStore
from pointsman.streams.store.batch import DeadLetter, SinkBatch, WriteResult
from pointsman.streams.store.errors import MigrationError, NotMigrated, OffsetConflict, StoreUnavailable

__all__ = [
    "AuditStore",
    "DeadLetter",
    "MigrationError",
    "NotMigrated",
    "OffsetConflict",
    "SinkBatch",
    "StoreUnavailable",
    "WriteResult",
]
