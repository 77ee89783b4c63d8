// The digest of rows, as clients/python/marketdata/digest.py defines it.

import { type Batch, Kind } from "../gen/marketdata/v1/batch_pb.js";

const MASK = (1n << 64n) - 1n;
const STEP = 0x9e3779b97f4a7c15n;
const INT64_MAX = (1n << 63n) - 1n;

/** A column of a batch: its field number, what stands for "not there", and its values. */
type Column = [number: bigint, absent: bigint, values: readonly (bigint | number)[]];

export class Digest {
  value = 0n;
  rows = 0n;

  /** Adds the rows of a batch. */
  add(batch: Batch): void {
    const [kind, all] = columnsOf(batch);
    const columns = all.filter(([, , values]) => values.length > 0); // one that is left out adds nothing
    const factors = columns.map(([number]) => [0n, 1n, 2n].map((use) => word(kind, number, use) | 1n));
    const seeds = [word(kind, 0n, 1n), word(kind, 0n, 2n)];
    for (let row = 0; row < batch.rows; row++) {
      let [high, low] = seeds;
      columns.forEach(([, absent, values], place) => {
        const [spread, first, second] = factors[place];
        let t = ((BigInt.asUintN(64, BigInt(values[row])) ^ absent) * spread) & MASK;
        t ^= t >> 32n;
        high = (high + t * first) & MASK;
        low = (low + t * second) & MASK;
      });
      this.value = BigInt.asUintN(128, this.value + (mix(high) << 64n) + mix(low));
    }
    this.rows += BigInt(batch.rows);
  }

  /** Adds a digest as GetDigest tells it. */
  addHex(digits: string, rows: bigint): void {
    this.value = BigInt.asUintN(128, this.value + BigInt(`0x${digits}`));
    this.rows += rows;
  }

  equals(other: Digest): boolean {
    return this.value === other.value && this.rows === other.rows;
  }

  toString(): string {
    return this.value.toString(16).padStart(32, "0");
  }
}

/** All columns but the verdicts, which the server sets. */
function columnsOf(batch: Batch): [bigint, Column[]] {
  if (batch.columns.case === "quotes") {
    const q = batch.columns.value;
    return [
      BigInt(Kind.QUOTE),
      [
        [1n, 0n, q.instrumentId],
        [2n, INT64_MAX, q.tsEvent],
        [3n, INT64_MAX, q.tsRecv],
        [4n, INT64_MAX, q.sequence],
        [5n, INT64_MAX, q.bidPrice],
        [6n, INT64_MAX, q.bidSize],
        [7n, INT64_MAX, q.askPrice],
        [8n, INT64_MAX, q.askSize],
      ],
    ];
  }
  if (batch.columns.case === "trades") {
    const t = batch.columns.value;
    return [
      BigInt(Kind.TRADE),
      [
        [1n, 0n, t.instrumentId],
        [2n, INT64_MAX, t.tsEvent],
        [3n, INT64_MAX, t.tsRecv],
        [4n, INT64_MAX, t.sequence],
        [5n, INT64_MAX, t.price],
        [6n, INT64_MAX, t.size],
        [7n, 0n, t.side],
        [9n, 0n, t.action],
        [10n, INT64_MAX, t.refersTo],
      ],
    ];
  }
  throw new Error("a batch without columns");
}

function word(kind: bigint, number: bigint, use: bigint): bigint {
  return mix(((kind * 1024n + number * 4n + use) * STEP) & MASK);
}

/** The finalizer of splitmix64. */
function mix(x: bigint): bigint {
  x = ((x ^ (x >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  x = ((x ^ (x >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return x ^ (x >> 31n);
}
