"""Ten lines for a notebook, or a terminal: connect, bars to Polars, plot, subscribe, print.

`make run`, `eval "$(mda env)"`, `pip install "marketdata-client[polars]" uniplot`.
"""

# ruff: noqa: T201
from uniplot import plot

from marketdata.sync import connect
from marketdata.times import ago_ns

with connect() as client:
    bars = client.bars("SIM", ["ALFA"], start_ns=ago_ns(minutes=10), interval_s=1).to_polars()
    plot(bars["close"].drop_nulls().to_list(), lines=True, title="ALFA")
    for number, update in enumerate(client.subscribe("SIM", ["ALFA"])):
        print(update.cursor, *(batch["ts_event"][-1] for batch in update.batches))
        if number == 20:
            break  # it goes on for ever otherwise
