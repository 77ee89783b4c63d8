import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { BatchSchema } from "../gen/marketdata/v1/batch_pb.js";
import { Digest } from "./digest.ts";

test("the rows and the digest of the example in clients/python/marketdata/digest.py", () => {
  const value = { instrumentId: [1, 2], tsEvent: [5n, 6n], price: [7n, 8n] };
  const digest = new Digest();
  digest.add(create(BatchSchema, { rows: 2, columns: { case: "trades", value } }));
  assert.equal(digest.toString(), "58f12f5ec09e8fba19faabf5f9b5774a");
});
