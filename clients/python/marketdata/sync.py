"""The client for scripts and notebooks: no `async`, the same methods.

It is the asyncio client in a thread of its own, and has no logic of its own: what a method
takes, returns and raises is what that of `marketdata.client` does.

    from marketdata.sync import connect
    from marketdata.times import ago_ns

    with connect() as client:
        print(client.bars("SIM", ["ALFA"], start_ns=ago_ns(hours=1)).to_polars())
        for update in client.subscribe("SIM", ["ALFA"]):
            print(update.batches)

In a notebook, `client = connect()` and, at the end, `client.close()`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from functools import wraps
from types import TracebackType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Self, TypeVar

from marketdata import client as aio
from marketdata.bar_updates import BarUpdate, BarUpdates
from marketdata.columns import Batch
from marketdata.digest import Digest
from marketdata.loop_thread import LoopThread, Pump
from marketdata.publisher import AckLevel, Publisher
from marketdata.scan import Scan, ScanUpdate
from marketdata.spool import Spool
from marketdata.subscriber import Subscriber, Update
from marketdata.tables import Prices
from marketdata.v1.gap_pb2 import Gap

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow

P = ParamSpec("P")
T = TypeVar("T")
S = TypeVar("S", Scan, BarUpdates, Subscriber)
Source = TypeVar("Source", Scan, BarUpdates)
U = TypeVar("U", ScanUpdate, BarUpdate)


def connect(url: str | None = None, api_key: str | None = None, *, root_certificates: bytes | None = None) -> Client:
    """Connect to a gateway, as `marketdata.client.Client.connect` does."""
    return Client(url, api_key, root_certificates=root_certificates)


def _waiting(
    method: Callable[Concatenate[aio.Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    """Return a method of the asyncio client as one that waits for its result."""

    @wraps(method)
    def call(client: Client, *args: P.args, **kwargs: P.kwargs) -> T:
        return client.thread.run(method(client.aio, *args, **kwargs))

    return call


def _made(
    method: Callable[Concatenate[aio.Client, P], S], made: Callable[[LoopThread, S], T]
) -> Callable[Concatenate[Client, P], T]:
    """Return a method of the asyncio client that makes something to iterate over, as one whose thing waits."""

    @wraps(method)
    def call(client: Client, *args: P.args, **kwargs: P.kwargs) -> T:
        return made(client.thread, method(client.aio, *args, **kwargs))

    return call


class _Iterable(Generic[Source, U]):
    """Something of the asyncio client that yields, as something that waits."""

    def __init__(self, thread: LoopThread, source: Source) -> None:
        self._thread = thread
        self._source = source
        self.cursor = source.cursor

    def __iter__(self) -> Iterator[U]:
        """Yield updates, as the asyncio client's do."""
        self._source.cursor = self.cursor  # what an earlier loop has fetched ahead was not given
        updates: Any = aiter(self._source)
        pump: Pump[U] = Pump(self._thread, updates)
        try:
            for update in pump:
                self.cursor = update.cursor or self.cursor
                yield update
        finally:
            pump.close()


class BarStream(_Iterable[BarUpdates, BarUpdate]):
    """Bars as they come, as `marketdata.bar_updates.BarUpdates`."""


class RowScan(_Iterable[Scan, ScanUpdate]):
    """A scan, as `marketdata.scan.Scan`."""

    def to_arrow(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> pyarrow.Table:
        """Read all rows into an Arrow table."""
        return self._thread.run(self._source.to_arrow(prices=prices, symbols=symbols))

    def to_polars(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> polars.DataFrame:
        """Read all rows into a Polars frame."""
        return self._thread.run(self._source.to_polars(prices=prices, symbols=symbols))

    def to_pandas(self, *, prices: Prices = "float", symbols: Mapping[int, str] | None = None) -> pandas.DataFrame:
        """Read all rows into a pandas frame."""
        return self._thread.run(self._source.to_pandas(prices=prices, symbols=symbols))


class Subscription:
    """A subscription, as `marketdata.subscriber.Subscriber`: iterates over updates for ever.

    Updates are fetched a little ahead; callbacks, digest and store are of those that were
    given to you alone.
    """

    def __init__(self, thread: LoopThread, subscriber: Subscriber) -> None:
        self._thread = thread
        self._subscriber = subscriber

    @property
    def symbols(self) -> Mapping[int, str]:
        """The symbol of each instrument id that was told of."""
        return self._subscriber.symbols

    @property
    def cursor(self) -> str:
        """The place after the newest update that was given."""
        return self._subscriber.delivery.cursor

    @property
    def connections(self) -> int:
        """How many connections it took."""
        return self._subscriber.connections

    def __iter__(self) -> Iterator[Update]:
        """Yield updates."""
        delivery = self._subscriber.delivery
        self._subscriber.go_back()
        self._subscriber.resume_from(delivery.load())
        pump = Pump(self._thread, self._subscriber.undelivered())
        try:
            for update in pump:
                delivery.give(update)
                yield update
                if delivery.done():
                    delivery.save()
        finally:
            pump.close()
            delivery.save()

    def commit(self) -> None:
        """Save the cursor now: what was given so far has been worked through."""
        self._thread.run(self._subscriber.commit())

    def verify(self) -> Digest:
        """Prove that the rows that were given so far are those on the tape, each once; return their digest."""
        return self._thread.run(self._subscriber.verify())


class BatchPublisher:
    """A publisher, as `marketdata.publisher.Publisher`."""

    def __init__(self, thread: LoopThread, publisher: Publisher) -> None:
        self._thread = thread
        self.aio = publisher

    @property
    def last_number(self) -> int:
        """The number of the last batch that was taken in, in this process or one before."""
        return self.aio.last_number

    @property
    def position(self) -> str:
        """Where this producer stood in its source when it was opened, as it said itself."""
        return self.aio.position

    def publish(self, batch: Batch | None, *, gaps: Sequence[Gap] = (), position: str = "") -> int:
        """Give a batch to be published; return its number. Parameters as in `marketdata.publisher.Publisher`."""
        return self._thread.run(self.aio.publish(batch, gaps=gaps, position=position))

    def flush(self) -> None:
        """Wait until every batch is as safe as asked for."""
        self._thread.run(self.aio.flush())


class Client:
    """A client of the market-data API that waits. Make it with `connect`; close it, or use it in `with`.

    Attributes
    ----------
    aio, thread
        The asyncio client, and the thread in which it runs.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, root_certificates: bytes | None = None
    ) -> None:
        self.thread = LoopThread()
        self._open = AsyncExitStack()
        connecting = aio.Client.connect(url, api_key, root_certificates=root_certificates)
        try:
            self.aio = self.thread.run(self._open.enter_async_context(connecting))
        except BaseException:
            self.thread.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the connection, and what goes on over it. May be called again."""
        if not self.thread.closed:
            self.thread.run(self._open.aclose())
            self.thread.close()

    list_datasets = _waiting(aio.Client.list_datasets)
    list_instruments = _waiting(aio.Client.list_instruments)
    put_instruments = _waiting(aio.Client.put_instruments)
    symbols = _waiting(aio.Client.symbols)
    quotes = _waiting(aio.Client.quotes)
    quotes_as_of = _waiting(aio.Client.quotes_as_of)
    trades = _waiting(aio.Client.trades)
    trades_with_quotes = _waiting(aio.Client.trades_with_quotes)
    bars = _waiting(aio.Client.bars)
    digest = _waiting(aio.Client.digest)
    gaps = _waiting(aio.Client.gaps)
    quarantined = _waiting(aio.Client.quarantined)
    release = _waiting(aio.Client.release)
    token = _waiting(aio.Client.token)
    scan = _made(aio.Client.scan, RowScan)
    stream_bars = _made(aio.Client.stream_bars, BarStream)
    subscribe = _made(aio.Client.subscribe, Subscription)

    @contextmanager
    def publisher(
        self, dataset: str, producer: str, *, ack_level: AckLevel = AckLevel.DURABLE, spool: Spool | None = None
    ) -> Generator[BatchPublisher]:
        """Open a publisher, as `marketdata.client.Client.publisher` does."""
        stack = AsyncExitStack()
        opened = self.aio.publisher(dataset, producer, ack_level=ack_level, spool=spool)
        publisher = self.thread.run(stack.enter_async_context(opened))
        try:
            yield BatchPublisher(self.thread, publisher)
        except BaseException as error:
            self.thread.run(stack.__aexit__(type(error), error, error.__traceback__))
            raise
        self.thread.run(stack.aclose())
