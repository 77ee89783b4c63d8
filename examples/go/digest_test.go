package main

import (
	"testing"

	marketdatav1 "example.com/marketdata/gen/marketdata/v1"
)

// The rows and the digest of the example in clients/python/marketdata/digest.py.
func TestDigest(t *testing.T) {
	trades := &marketdatav1.TradeColumns{InstrumentId: []uint32{1, 2}, TsEvent: []int64{5, 6}, Price: []int64{7, 8}}
	batch := &marketdatav1.Batch{Rows: 2, Columns: &marketdatav1.Batch_Trades{Trades: trades}}
	var digest Digest
	digest.Add(batch)
	if digest.String() != "58f12f5ec09e8fba19faabf5f9b5774a" {
		t.Fatalf("another digest: %s", digest)
	}
}
