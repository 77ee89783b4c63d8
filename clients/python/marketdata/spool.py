"""A spool: batches that are not acknowledged yet, in a file, so that they outlive the process."""

from __future__ import annotations

import os
import struct
import zlib
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

_MAGIC: Final = b"MDASPOOL1\n"
_CRC: Final = struct.Struct("<I")
_FACTS: Final = struct.Struct("<QIII")
"""After the CRC-32 of what follows: a batch's number and rows, where in its message `Batches` begins, its length."""
_HEAD_BYTES: Final = _CRC.size + _FACTS.size
_NAME: Final = struct.Struct("<H")
_WORTH_BYTES: Final = 1 << 20
"""A file is written anew once so many bytes of it, and half of it, are acknowledged."""


class SpoolError(ValueError):
    """A spool that cannot be used. The message says why."""


@dataclass(frozen=True, slots=True)
class Spool:
    """Where a publisher keeps what is not acknowledged, besides in memory.

    A batch is in the file before `Publisher.publish` returns, and goes from it once it is
    acknowledged. Whoever opens a publisher with the same file sends what is in it, with its
    numbers, so that each batch is on the tape once, whether it had arrived or not.

    Attributes
    ----------
    path
        The file: of one producer of one dataset, and of one process at a time.
    max_bytes
        How large it may get: `publish` waits while it is full.
    sync
        Whether each batch is synced to disk before `publish` returns. Without, it outlives
        the process (`kill -9`), and not a loss of power.
    """

    path: Path
    max_bytes: int = 256 << 20
    sync: bool = False


@dataclass(frozen=True, slots=True)
class Numbered:
    """A batch that is not acknowledged yet.

    Attributes
    ----------
    number, rows
        Its number, and how many rows it has.
    message, start
        It as a message, and where in that `Batches` begins.
    """

    number: int
    rows: int
    message: bytes
    start: int


class SpoolFile:
    """The open file of a spool. Make it with `open`.

    Attributes
    ----------
    found
        What was in it, in order of number.
    """

    def __init__(self, spool: Spool, file: int, head: bytes) -> None:
        self._spool = spool
        self._file = file
        self._head = head
        self._size = len(head)
        self._acknowledged = 0  # bytes of records that are acknowledged, at the file's beginning
        self._put_off = 0  # so many of them there were when the file could not be written anew
        self._records: deque[tuple[int, int]] = deque()  # the number and the size of each that is not
        self.found: list[Numbered] = []

    @classmethod
    def open(cls, spool: Spool, dataset: str, producer: str) -> Self:
        """Open a spool's file, which is made where it is not there.

        What is not whole at its end, because the process was killed while it wrote it, is cut
        off: `publish` had not returned.

        Raises
        ------
        SpoolError
            If it is of another producer, or no spool, or another process has it open.
        """
        names = [name.encode() for name in (dataset, producer)]
        head = _MAGIC + b"".join(_NAME.pack(len(name)) + name for name in names)
        spool.path.parent.mkdir(parents=True, exist_ok=True)
        file = _open_alone(spool.path)
        try:
            made = cls(spool, file, head)
            made._begin(dataset, producer)
        except BaseException:
            os.close(file)
            raise
        return made

    def close(self) -> None:
        """Close the file; what is not acknowledged stays in it."""
        os.close(self._file)

    @property
    def full(self) -> bool:
        """Whether no more batches are to be added for now."""
        return self._size - self._acknowledged >= self._spool.max_bytes

    def append(self, item: Numbered) -> None:
        """Add a batch; wholly, or, where the disk is full, not at all."""
        told = _FACTS.pack(item.number, item.rows, item.start, len(item.message)) + item.message
        record = _CRC.pack(zlib.crc32(told)) + told
        try:
            _write(self._file, record)
            if self._spool.sync:
                os.fsync(self._file)
        except BaseException:
            self._cut_off()  # what comes after a torn record could not be read
            raise
        self._records.append((item.number, len(record)))
        self._size += len(record)

    def acknowledge(self, number: int) -> None:
        """Forget batches up to a number."""
        while self._records and self._records[0][0] <= number:
            self._acknowledged += self._records.popleft()[1]
        if self._acknowledged and (not self._records or self._is_worth_it()):
            self._compact()

    def _is_worth_it(self) -> bool:
        return self._acknowledged - self._put_off >= max(_WORTH_BYTES, self._size // 2)

    def _begin(self, dataset: str, producer: str) -> None:
        path = self._spool.path
        data = path.read_bytes()
        if self._head.startswith(data):  # it is new, or was when its writer was killed
            os.ftruncate(self._file, 0)
            _write(self._file, self._head)
            return
        if not data.startswith(_MAGIC):
            raise SpoolError(f"{path} is no spool")
        if not data.startswith(self._head):
            raise SpoolError(f"{path} is the spool of another producer than {producer} of {dataset}")
        self._read(data)
        self._cut_off()

    def _cut_off(self) -> None:
        """Cut off what is beyond the records that are whole."""
        os.ftruncate(self._file, self._size)
        os.lseek(self._file, 0, os.SEEK_END)

    def _read(self, data: bytes) -> None:
        """Take in the records of the file, up to the first that is not whole."""
        at = len(self._head)
        while at + _HEAD_BYTES <= len(data):
            number, rows, start, length = _FACTS.unpack_from(data, at + _CRC.size)
            end = at + _HEAD_BYTES + length
            whole = end <= len(data) and _CRC.unpack_from(data, at) == (zlib.crc32(data[at + _CRC.size : end]),)
            if not whole or (self.found and number != self.found[-1].number + 1):
                break
            self.found.append(Numbered(number, rows, data[at + _HEAD_BYTES : end], start))
            self._records.append((number, end - at))
            at = end
        self._size = at

    def _compact(self) -> None:
        """Write what is not acknowledged anew, in the file's place; nothing is lost if the process dies meanwhile."""
        if not self._records:
            os.ftruncate(self._file, len(self._head))
            os.lseek(self._file, 0, os.SEEK_END)
        else:
            try:
                self._rewrite()
            except OSError:  # the disk is full: the file is as good as it was, and only larger
                self._put_off = self._acknowledged
                return
        self._size -= self._acknowledged
        self._acknowledged = self._put_off = 0

    def _rewrite(self) -> None:
        path = self._spool.path
        rest = os.pread(self._file, self._size, len(self._head) + self._acknowledged)
        fresh = path.with_name(path.name + ".new")
        file = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            _lock(file)
            _write(file, self._head + rest)
            if self._spool.sync:
                os.fsync(file)
            fresh.replace(path)
        except BaseException:
            os.close(file)
            fresh.unlink(missing_ok=True)
            raise
        os.close(self._file)
        self._file = file


def _open_alone(path: Path) -> int:
    """Open a file for this process alone; not one in whose place another process has put another meanwhile."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _lock(file)
            if os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BlockingIOError:
            os.close(file)
            raise SpoolError(f"{path} is open in another process: each producer is for one at a time") from None
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _write(file: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]


def _lock(file: int) -> None:
    import fcntl  # Windows has none, and can do without spools

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
