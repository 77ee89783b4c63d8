// Subscribes through the gateway by gRPC, and proves that every row came once; then scans the same rows by
// gRPC-Web, as a browser does.
//
//   node src/main.ts SIM 1000

import { create } from "@bufbuild/protobuf";
import { createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { QueryService, SubscribeRequestSchema } from "../gen/marketdata/query/v1/query_service_pb.js";
import { Digest } from "./digest.ts";

const [dataset, wanted] = process.argv.slice(2);
const baseUrl = process.env.MDA_URL ?? "";
const token = await fetchToken(process.env.MDA_API_KEY ?? "");
const authorized: Interceptor = (next) => (request) => {
  request.header.set("authorization", `Bearer ${token}`);
  return next(request);
};
const byGrpc = createGrpcTransport({ baseUrl, interceptors: [authorized] });
const byWeb = createGrpcWebTransport({ baseUrl, interceptors: [authorized] });

const [received, after, until] = await subscribe(byGrpc, BigInt(wanted));
await compare(byGrpc, received, after, until);
console.log(`gRPC: ${received.rows} rows, as on the tape: ${received}`);
const [scanned, end] = await scan(byWeb, after, received.rows);
await compare(byWeb, scanned, after, end);
console.log(`gRPC-Web: ${scanned.rows} rows, as on the tape: ${scanned}`);
process.exit(0); // connections stay open for others

/** Exchanges the API key for a token (RFC 6749, client credentials). */
async function fetchToken(apiKey: string): Promise<string> {
  const [id, secret] = apiKey.split(".");
  const body = new URLSearchParams({ grant_type: "client_credentials", client_id: id, client_secret: secret });
  const answer = await (await fetch(`${baseUrl}/oauth2/token`, { method: "POST", body })).json();
  if (!answer.access_token) throw new Error(`no token: ${answer.error}`);
  return answer.access_token;
}

/** Reads rows of all symbols as they come; returns their digest, and the cursors before and after them. */
async function subscribe(transport: Transport, rows: bigint): Promise<[Digest, string, string]> {
  const digest = new Digest();
  let after = "";
  let until = "";
  let end = () => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  async function* requests() {
    const start = { dataset, symbols: { all: true }, at: { case: "now" as const, value: true } };
    yield create(SubscribeRequestSchema, { message: { case: "start", value: start } });
    await ended; // a stream that is closed on this side ends
  }
  for await (const message of createClient(QueryService, transport).subscribe(requests())) {
    for (const batch of message.batches) digest.add(batch);
    after ||= message.cursor;
    until = message.cursor || until;
    if (digest.rows >= rows) break;
  }
  end();
  return [digest, after, until];
}

/** Reads at least so many rows after a cursor, if there are as many; returns the cursor after them, too. */
async function scan(transport: Transport, cursor: string, rows: bigint): Promise<[Digest, string]> {
  const digest = new Digest();
  for await (const message of createClient(QueryService, transport).scan({ dataset, cursor })) {
    for (const batch of message.batches) digest.add(batch);
    cursor = message.cursor;
    if (digest.rows >= rows) break;
  }
  return [digest, cursor];
}

/** Asks for the digest of the tape between two cursors, part by part. */
async function compare(transport: Transport, received: Digest, after: string, until: string): Promise<void> {
  const query = createClient(QueryService, transport);
  const onTape = new Digest();
  for (let complete = false; !complete; ) {
    const page = await query.getDigest({ dataset, after, until });
    onTape.addHex(page.digest, page.rows);
    after = page.cursor;
    complete = page.complete;
  }
  if (!onTape.equals(received)) {
    throw new Error(`received ${received.rows} rows, ${received}; the tape has ${onTape.rows}, ${onTape}`);
  }
}
