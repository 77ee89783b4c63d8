package marketdata.example;

import com.marketdata.query.v1.GetDigestRequest;
import com.marketdata.query.v1.GetDigestResponse;
import com.marketdata.query.v1.QueryServiceGrpc;
import com.marketdata.query.v1.SubscribeRequest;
import com.marketdata.query.v1.SubscribeResponse;
import com.marketdata.query.v1.SymbolSelection;
import com.marketdata.v1.Batch;
import com.marketdata.v1.TradeColumns;
import io.grpc.Channel;
import io.grpc.ClientInterceptors;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.stub.MetadataUtils;
import io.grpc.stub.StreamObserver;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Subscribes through the gateway, and proves that every row came once: {@code Main SIM 1000}. */
public final class Main {
  private static final Pattern TOKEN = Pattern.compile("\"access_token\"\\s*:\\s*\"([^\"]+)\"");

  private final String dataset;
  private final Digest received = new Digest();
  private String after = "";
  private String until = "";

  private Main(String dataset) {
    this.dataset = dataset;
  }

  public static void main(String[] arguments) throws Exception {
    checkDigest();
    URI gateway = URI.create(System.getenv("MDA_URL"));
    Metadata headers = new Metadata();
    String token = fetchToken(gateway, System.getenv("MDA_API_KEY"));
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
    ManagedChannel plain =
        ManagedChannelBuilder.forAddress(gateway.getHost(), gateway.getPort()).usePlaintext().build();
    Channel channel = ClientInterceptors.intercept(plain, MetadataUtils.newAttachHeadersInterceptor(headers));
    try {
      Main example = new Main(arguments[0]);
      example.subscribe(QueryServiceGrpc.newStub(channel), Long.parseLong(arguments[1]));
      example.compare(QueryServiceGrpc.newBlockingStub(channel));
    } finally {
      plain.shutdownNow();
    }
  }

  /** Exchanges the API key for a token (RFC 6749, client credentials). */
  private static String fetchToken(URI gateway, String apiKey) throws Exception {
    String[] parts = apiKey.split("\\.", 2);
    String form =
        "grant_type=client_credentials&client_id=%s&client_secret=%s"
            .formatted(encoded(parts[0]), encoded(parts[1]));
    HttpRequest request =
        HttpRequest.newBuilder(gateway.resolve("/oauth2/token"))
            .header("content-type", "application/x-www-form-urlencoded")
            .POST(HttpRequest.BodyPublishers.ofString(form))
            .build();
    String answer = HttpClient.newHttpClient().send(request, HttpResponse.BodyHandlers.ofString()).body();
    Matcher found = TOKEN.matcher(answer);
    if (!found.find()) {
      throw new IllegalStateException("no token: " + answer);
    }
    return found.group(1);
  }

  private static String encoded(String text) {
    return URLEncoder.encode(text, StandardCharsets.UTF_8);
  }

  /** Reads rows of all symbols as they come. */
  private void subscribe(QueryServiceGrpc.QueryServiceStub query, long rows) throws Exception {
    BlockingQueue<Object> messages = new LinkedBlockingQueue<>();
    StreamObserver<SubscribeRequest> requests = query.subscribe(new Putting(messages));
    SubscribeRequest.Start start =
        SubscribeRequest.Start.newBuilder()
            .setDataset(dataset)
            .setSymbols(SymbolSelection.newBuilder().setAll(true))
            .setNow(true)
            .build();
    requests.onNext(SubscribeRequest.newBuilder().setStart(start).build());
    while (received.rows() < rows) {
      if (!(messages.take() instanceof SubscribeResponse message)) {
        throw new IllegalStateException("the subscription ended");
      }
      message.getBatchesList().forEach(received::add);
      after = after.isEmpty() ? message.getCursor() : after;
      until = message.getCursor().isEmpty() ? until : message.getCursor();
    }
    requests.onError(Status.CANCELLED.asException());
  }

  /** Asks for the digest of the tape between the two cursors, part by part. */
  private void compare(QueryServiceGrpc.QueryServiceBlockingStub query) {
    Digest onTape = new Digest();
    GetDigestResponse page;
    do {
      page =
          query.getDigest(
              GetDigestRequest.newBuilder().setDataset(dataset).setAfter(after).setUntil(until).build());
      onTape.addHex(page.getDigest(), page.getRows());
      after = page.getCursor();
    } while (!page.getComplete());
    if (onTape.rows() != received.rows() || !onTape.toString().equals(received.toString())) {
      throw new IllegalStateException(
          "received %d rows, %s; the tape has %d, %s"
              .formatted(received.rows(), received, onTape.rows(), onTape));
    }
    System.out.printf("%d rows, as on the tape: %s%n", received.rows(), received);
  }

  /** The rows and the digest of the example in clients/python/marketdata/digest.py. */
  private static void checkDigest() {
    TradeColumns.Builder trades = TradeColumns.newBuilder();
    trades.addInstrumentId(1).addInstrumentId(2).addTsEvent(5).addTsEvent(6).addPrice(7).addPrice(8);
    Digest digest = new Digest();
    digest.add(Batch.newBuilder().setRows(2).setTrades(trades).build());
    if (!digest.toString().equals("58f12f5ec09e8fba19faabf5f9b5774a")) {
      throw new IllegalStateException("another digest: " + digest);
    }
  }

  /** Hands over what comes, and its end. */
  private record Putting(BlockingQueue<Object> messages) implements StreamObserver<SubscribeResponse> {
    @Override
    public void onNext(SubscribeResponse message) {
      messages.add(message);
    }

    @Override
    public void onError(Throwable error) {
      messages.add(error);
    }

    @Override
    public void onCompleted() {
      messages.add("end");
    }
  }
}
