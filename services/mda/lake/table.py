"""A Delta table that follows a tape: rows and the place up to which they are there, in one commit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction, RemoveAction

from mda.lake.errors import ConflictError, LakeError, told
from mda.lake.files import BOUNDED, FileIndex, LakeFile, files_of
from mda.lake.layout import PARTITION, SCHEMAS, TABLES
from mda.lake.location import Location

_REWRITES: Final = "rewrites"
"""The one transaction of all who write files anew: two who replace the same files would double their rows."""

_CONTENT: Final = "content"
_STATS: Final = "delta.dataSkippingStatsColumns"
_RETRIES: Final = 20
_CONFIGURATION: Final = {
    "delta.checkpointInterval": "20",
    "delta.logRetentionDuration": "interval 7 days",
    "delta.deletedFileRetentionDuration": "interval 7 days",
}


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A table at one version.

    Attributes
    ----------
    location
        Where the table is.
    version
        The version.
    index
        Its files.
    """

    location: Location
    version: int
    index: FileIndex

    @property
    def files(self) -> Sequence[LakeFile]:
        """Its files, in the order of the tape."""
        return self.index.files

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(file.rows for file in self.files)


class LakeTable:
    """One table. Its methods block; one thread at a time may use it.

    Parameters
    ----------
    location
        Where its dataset's tables are.
    name
        Its name; a key of `SCHEMAS`.

    Attributes
    ----------
    location
        Where it is.
    """

    def __init__(self, location: Location, name: str) -> None:
        self.location = location.child(name)
        self._schema: pa.Schema = SCHEMAS[name]
        self._partition = [PARTITION] if name in TABLES.values() else []
        self._table: DeltaTable | None = None
        self._snapshot: Snapshot | None = None

    def create(self) -> None:
        """Make the table, if it is not there, or add what it lacks of columns and bounds: old files stay as they are.

        Raises
        ------
        LakeError
        """
        bounded = ",".join(name for name in BOUNDED if name in self._schema.names)
        with told(self.location):
            table = DeltaTable.create(
                self.location.uri,
                self._whole_schema,
                mode="ignore",
                partition_by=self._partition,
                configuration=_CONFIGURATION | {_STATS: bounded},
                storage_options=dict(self.location.options),
            )
            known = {field.name for field in table.schema().fields}
            missing = [field for field in Schema.from_arrow(self._whole_schema).fields if field.name not in known]
            if missing:
                table.alter.add_columns(missing)
            if table.metadata().configuration.get(_STATS) != bounded:  # readers are told of no others
                table.alter.set_table_properties({_STATS: bounded})

    @property
    def _whole_schema(self) -> pa.Schema:
        schema = self._schema
        for name in self._partition:
            schema = schema.append(pa.field(name, pa.date32()))
        return schema

    def exists(self) -> bool:
        """Return whether the table is there.

        Raises
        ------
        LakeError
        """
        with told(self.location):
            return DeltaTable.is_deltatable(self.location.uri, dict(self.location.options))

    def refresh(self) -> None:
        """Take in what was committed since.

        Raises
        ------
        LakeError
        """
        with told(self.location):
            self._opened.update_incremental()

    def offset(self, epoch: int) -> int:
        """Return the sequence number up to which the rows of a tape are there, as of the last `refresh`."""
        with told(self.location):
            return self._opened.transaction_version(_tape(epoch)) or 0

    def snapshot(self) -> Snapshot:
        """Return the table as of the last `refresh`."""
        table = self._opened
        if self._snapshot is None or self._snapshot.version != table.version():
            with told(self.location):
                actions = pa.table(table.get_add_actions(flatten=True))
            self._snapshot = Snapshot(self.location, table.version(), FileIndex(files_of(actions)))
        return self._snapshot

    def append(self, added: Sequence[AddAction], epoch: int, sequence: int) -> None:
        """Commit rows of a tape, which go up to a place, and with them that place.

        Raises
        ------
        ConflictError
            If somebody else has committed rows of this tape since the last `refresh`.
        LakeError
        """
        self._commit(added, Transaction(_tape(epoch), sequence))

    def replace(self, removed: Sequence[LakeFile], added: Sequence[AddAction], *, changes_rows: bool = False) -> None:
        """Commit files in place of others.

        Raises
        ------
        ConflictError
            If somebody else has done so since the last `refresh`.
        LakeError
        """
        with told(self.location):
            number = (self._opened.transaction_version(_REWRITES) or 0) + 1
        removals = [file.remove(changes_rows=changes_rows) for file in removed]
        self._commit([*added, *removals], Transaction(_REWRITES, number))

    @property
    def number(self) -> int:
        """The number of what `put` put there, as of the last `refresh`; 0 where nothing is."""
        with told(self.location):
            return self._opened.transaction_version(_CONTENT) or 0

    def put(self, added: Sequence[AddAction], number: int) -> None:
        """Commit files in place of all that is there, with a number.

        Raises
        ------
        ConflictError
            If somebody else has done so since the last `refresh`.
        LakeError
        """
        removals = [file.remove(changes_rows=True) for file in self.snapshot().files]
        self._commit([*added, *removals], Transaction(_CONTENT, number))

    def vacuum(self, keep_hours: int) -> list[str]:
        """Delete files that no version of the last hours has; return their paths.

        Raises
        ------
        LakeError
        """
        with told(self.location):
            return self._opened.vacuum(keep_hours, dry_run=False, enforce_retention_duration=False, full=True)

    def damaged(self, problem: str) -> LakeError:
        """Return the error for a table that holds what it should not."""
        return LakeError(f"The table at {self.location.uri} {problem}")

    @property
    def _opened(self) -> DeltaTable:
        if self._table is None:
            with told(self.location):
                self._table = DeltaTable(self.location.uri, storage_options=dict(self.location.options))
        return self._table

    def _commit(self, actions: Sequence[AddAction | RemoveAction], transaction: Transaction) -> None:
        table = self._opened
        properties = CommitProperties(app_transactions=[transaction], max_commit_retries=_RETRIES)
        with told(self.location):
            try:
                table.create_write_transaction(
                    list(actions), "append", self._whole_schema, self._partition, commit_properties=properties
                )
            except CommitFailedError as error:
                raise ConflictError(str(error)) from error
            table.update_incremental()
            self.location.sync(f"_delta_log/{table.version():020}.json")


def _tape(epoch: int) -> str:
    return f"tape:{epoch}"
