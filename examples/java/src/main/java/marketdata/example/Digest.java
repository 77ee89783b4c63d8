package marketdata.example;

import com.marketdata.v1.Batch;
import com.marketdata.v1.Kind;
import com.marketdata.v1.QuoteColumns;
import com.marketdata.v1.TradeColumns;
import java.util.List;

/** The digest of rows, as clients/python/marketdata/digest.py defines it. Signed longs wrap as unsigned ones do. */
final class Digest {
  private static final long STEP = 0x9E3779B97F4A7C15L;
  private static final long WIDE = Long.MAX_VALUE; // "not there" in a column of 64 bits
  private static final long NARROW = 0; // and in one of 32

  private long high;
  private long low;
  private long rows;

  /** A column: its field number, what stands for "not there", and its values. */
  private record Column(long number, long absent, List<? extends Number> values) {
    long at(int row) {
      Number value = values.get(row);
      return value instanceof Integer narrow ? Integer.toUnsignedLong(narrow) : value.longValue();
    }
  }

  long rows() {
    return rows;
  }

  /** Adds the rows of a batch. */
  void add(Batch batch) {
    boolean quotes = batch.hasQuotes();
    long kind = quotes ? Kind.KIND_QUOTE_VALUE : Kind.KIND_TRADE_VALUE;
    List<Column> columns = quotes ? columns(batch.getQuotes()) : columns(batch.getTrades());
    for (int row = 0; row < batch.getRows(); row++) {
      long first = word(kind, 0, 1);
      long second = word(kind, 0, 2);
      for (Column column : columns) {
        if (column.values().isEmpty()) {
          continue; // left out: not there in any row
        }
        long t = (column.at(row) ^ column.absent()) * (word(kind, column.number(), 0) | 1);
        t ^= t >>> 32;
        first += t * (word(kind, column.number(), 1) | 1);
        second += t * (word(kind, column.number(), 2) | 1);
      }
      add(mix(first), mix(second));
    }
    rows += batch.getRows();
  }

  /** Adds a digest as GetDigest tells it. */
  void addHex(String digits, long moreRows) {
    add(Long.parseUnsignedLong(digits, 0, 16, 16), Long.parseUnsignedLong(digits, 16, 32, 16));
    rows += moreRows;
  }

  private void add(long otherHigh, long otherLow) {
    low += otherLow;
    high += otherHigh + (Long.compareUnsigned(low, otherLow) < 0 ? 1 : 0);
  }

  /** All columns but the verdicts, which the server sets. */
  private static List<Column> columns(QuoteColumns q) {
    return List.of(
        new Column(1, NARROW, q.getInstrumentIdList()),
        new Column(2, WIDE, q.getTsEventList()),
        new Column(3, WIDE, q.getTsRecvList()),
        new Column(4, WIDE, q.getSequenceList()),
        new Column(5, WIDE, q.getBidPriceList()),
        new Column(6, WIDE, q.getBidSizeList()),
        new Column(7, WIDE, q.getAskPriceList()),
        new Column(8, WIDE, q.getAskSizeList()));
  }

  private static List<Column> columns(TradeColumns t) {
    return List.of(
        new Column(1, NARROW, t.getInstrumentIdList()),
        new Column(2, WIDE, t.getTsEventList()),
        new Column(3, WIDE, t.getTsRecvList()),
        new Column(4, WIDE, t.getSequenceList()),
        new Column(5, WIDE, t.getPriceList()),
        new Column(6, WIDE, t.getSizeList()),
        new Column(7, NARROW, t.getSideList()),
        new Column(9, NARROW, t.getActionList()),
        new Column(10, WIDE, t.getRefersToList()));
  }

  private static long word(long kind, long number, long use) {
    return mix((kind * 1024 + number * 4 + use) * STEP);
  }

  /** The finalizer of splitmix64. */
  private static long mix(long x) {
    x = (x ^ (x >>> 30)) * 0xBF58476D1CE4E5B9L;
    x = (x ^ (x >>> 27)) * 0x94D049BB133111EBL;
    return x ^ (x >>> 31);
  }

  @Override
  public String toString() {
    return "%016x%016x".formatted(high, low);
  }
}
