"""Everything `db` raises on purpose. Messages are one sentence and say what to change; none shows a password or ticket text.

DatabaseError
  DatabaseUrlError        the setting cannot be understood
  DatabaseDownError       nobody answers at the address
  DatabaseRefusedError    the server answers, but not to us
  DatabaseFileError       the SQLite file is damaged, full, not writable or no database
  DatabaseBusyError       another process held the lock too long; the same work may be tried again
  SchemaBehindError       migrations are missing
  SchemaAheadError        the program is older than the database
  RowNotFoundError        no such ticket, inference, adapter or run
  InvalidValueError       a value that no row may hold
  StateConflictError      the row's state does not allow it
    TransitionError       no such step between two statuses
    RunConflictError      a run is already going
    NothingToRollBackError
"""


class DatabaseError(Exception):
    """Base of all errors of `db`."""


class DatabaseUrlError(DatabaseError):
    """The database URL cannot be used."""


class DatabaseDownError(DatabaseError):
    """The database is not reachable."""


class DatabaseRefusedError(DatabaseError):
    """The server is there and refuses us: wrong password, user or database name."""


class DatabaseFileError(DatabaseError):
    """The SQLite file or its disk does not allow the work."""


class DatabaseBusyError(DatabaseError):
    """Locked, deadlocked or not serialisable: nothing was written, the whole transaction may run again."""


class SchemaBehindError(DatabaseError):
    """The database lacks migrations that this version needs."""


class SchemaAheadError(DatabaseError):
    """The database was migrated by a newer version."""


class RowNotFoundError(DatabaseError):
    """There is no such row."""


class InvalidValueError(DatabaseError):
    """A value that may not be stored."""


class StateConflictError(DatabaseError):
    """The row is in a state that does not allow the change."""


class TransitionError(StateConflictError):
    """The table of transitions has no such step."""


class RunConflictError(StateConflictError):
    """A training run is already going, or a process holds the training lease."""


class NothingToRollBackError(StateConflictError):
    """Nothing was live before."""
