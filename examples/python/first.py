"""Ten lines for a notebook, or a terminal: connect, bars to Polars, plot, subscribe, print.

`make run`, `eval "$(mda env)"`, `pip install "marketdata-client[polars]" "plotext<6"`.
"""

# ruff: noqa: T201
import plotext as plot

from marketdata.sync import connect
from marketdata.times import ago_ns

with connect() as client:
    bars = client.bars("SIM", ["ALFA"], start_ns=ago_ns(minutes=10), interval_s=1).to_polars()
    plot.plot(bars["close"].drop_nulls().to_list(), label="ALFA")
    plot.show()
    for number, update in enumerate(client.subscribe("SIM", ["ALFA"])):
        print(update.cursor, *(batch["ts_event"][-1] for batch in update.batches))
        if number == 20:
            break  # it goes on for ever otherwise
