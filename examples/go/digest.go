package main

import (
	"fmt"
	"math"
	"math/bits"

	marketdatav1 "example.com/marketdata/gen/marketdata/v1"
)

const step = 0x9E3779B97F4A7C15

// Digest is the digest of rows, as clients/python/marketdata/digest.py defines it.
type Digest struct {
	high, low uint64
	Rows      uint64
}

func (d Digest) String() string { return fmt.Sprintf("%016x%016x", d.high, d.low) }

// column is one column of a batch; values are widened to 64 bits.
type column struct {
	number uint64
	absent uint64
	length int
	at     func(row int) uint64
}

func signed(number uint64, values []int64) column {
	return column{number, math.MaxInt64, len(values), func(row int) uint64 { return uint64(values[row]) }}
}

func unsigned(number uint64, values []uint64) column {
	return column{number, math.MaxInt64, len(values), func(row int) uint64 { return values[row] }}
}

func narrow(number uint64, values []uint32) column {
	return column{number, 0, len(values), func(row int) uint64 { return uint64(values[row]) }}
}

// Add adds the rows of a batch.
func (d *Digest) Add(batch *marketdatav1.Batch) {
	kind, columns := columnsOf(batch)
	for row := 0; row < int(batch.Rows); row++ {
		high, low := word(kind, 0, 1), word(kind, 0, 2)
		for _, column := range columns {
			if column.length == 0 { // left out: not there in any row
				continue
			}
			t := (column.at(row) ^ column.absent) * (word(kind, column.number, 0) | 1)
			t ^= t >> 32
			high += t * (word(kind, column.number, 1) | 1)
			low += t * (word(kind, column.number, 2) | 1)
		}
		var carry uint64
		d.low, carry = bits.Add64(d.low, mix(low), 0)
		d.high, _ = bits.Add64(d.high, mix(high), carry)
	}
	d.Rows += uint64(batch.Rows)
}

// columnsOf returns the columns that count: all but the verdicts, which the server sets.
func columnsOf(batch *marketdatav1.Batch) (uint64, []column) {
	if q := batch.GetQuotes(); q != nil {
		return uint64(marketdatav1.Kind_KIND_QUOTE), []column{
			narrow(1, q.InstrumentId), signed(2, q.TsEvent), signed(3, q.TsRecv), unsigned(4, q.Sequence),
			signed(5, q.BidPrice), signed(6, q.BidSize), signed(7, q.AskPrice), signed(8, q.AskSize),
		}
	}
	t := batch.GetTrades()
	return uint64(marketdatav1.Kind_KIND_TRADE), []column{
		narrow(1, t.InstrumentId), signed(2, t.TsEvent), signed(3, t.TsRecv), unsigned(4, t.Sequence),
		signed(5, t.Price), signed(6, t.Size), narrow(7, t.Side), narrow(9, t.Action), unsigned(10, t.RefersTo),
	}
}

func word(kind, number, use uint64) uint64 { return mix((kind*1024 + number*4 + use) * step) }

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9
	x = (x ^ (x >> 27)) * 0x94D049BB133111EB
	return x ^ (x >> 31)
}

// AddHex adds a digest as GetDigest tells it.
func (d *Digest) AddHex(digits string, rows uint64) error {
	var high, low, carry uint64
	if _, err := fmt.Sscanf(digits, "%16x%16x", &high, &low); err != nil {
		return err
	}
	d.low, carry = bits.Add64(d.low, low, 0)
	d.high, _ = bits.Add64(d.high, high, carry)
	d.Rows += rows
	return nil
}
