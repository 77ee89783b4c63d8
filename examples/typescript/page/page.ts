// A page that streams quotes by gRPC-Web from a gateway on another origin. What it needs stands behind the `#` of
// its address, which browsers keep to themselves: gateway, token, dataset, symbols.

import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { QueryService } from "../gen/marketdata/query/v1/query_service_pb.js";

const asked = new URLSearchParams(location.hash.slice(1));
const authorized: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${asked.get("token")}`);
  return next(request);
};
const transport = createGrpcWebTransport({ baseUrl: asked.get("gateway") ?? "", interceptors: [authorized] });
const counts = new Map<string, number>();

try {
  await show(asked.get("dataset") ?? "SIM", (asked.get("symbols") ?? "").split(",").filter(Boolean));
} catch (error) {
  tell(`failed: ${error}`);
}

/** Shows the newest quote of each symbol, and how many came, for as long as the page is open. */
async function show(dataset: string, symbols: string[]): Promise<void> {
  const client = createClient(QueryService, transport);
  let rows = 0;
  for await (const message of client.streamQuotes({ dataset, symbols, snapshot: true })) {
    for (const quote of message.quotes) {
      const count = (counts.get(quote.symbol) ?? 0) + 1;
      counts.set(quote.symbol, count);
      rowOf(quote.symbol).replaceChildren(
        ...[quote.symbol, quote.bidPrice ?? "–", quote.askPrice ?? "–", count].map(cell),
      );
    }
    rows += message.quotes.length;
    tell(`${rows} rows`);
  }
}

function rowOf(symbol: string): HTMLElement {
  const id = `quote-${symbol}`;
  const found = document.getElementById(id);
  if (found) return found;
  const row = document.createElement("tr");
  row.id = id;
  document.getElementById("quotes")!.append(row);
  return row;
}

function cell(value: string | number): HTMLElement {
  const made = document.createElement("td");
  made.textContent = String(value);
  return made;
}

function tell(text: string): void {
  document.getElementById("status")!.textContent = text;
}
