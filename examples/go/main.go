// Subscribes through the gateway, and proves that every row came once.
//
//	go run . SIM 1000
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"

	queryv1 "example.com/marketdata/gen/marketdata/query/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: go run . DATASET ROWS")
	}
	rows, err := strconv.ParseUint(os.Args[2], 10, 64)
	if err == nil {
		err = run(context.Background(), os.Getenv("MDA_URL"), os.Getenv("MDA_API_KEY"), os.Args[1], rows)
	}
	if err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, address, apiKey, dataset string, rows uint64) error {
	token, err := fetchToken(address, apiKey)
	if err != nil {
		return err
	}
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	target := strings.TrimPrefix(address, "http://")
	connection, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	query := queryv1.NewQueryServiceClient(connection)
	received, after, until, err := subscribe(ctx, query, dataset, rows)
	if err != nil {
		return err
	}
	return compare(ctx, query, dataset, received, after, until)
}

// fetchToken exchanges the API key for a token (RFC 6749, client credentials).
func fetchToken(address, apiKey string) (string, error) {
	id, secret, _ := strings.Cut(apiKey, ".")
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}}
	answer, err := http.PostForm(address+"/oauth2/token", form)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var told struct {
		AccessToken string `json:"access_token"`
		Error       string `json:"error"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&told); err != nil {
		return "", err
	}
	if told.AccessToken == "" {
		return "", fmt.Errorf("no token: %s", told.Error)
	}
	return told.AccessToken, nil
}

// subscribe reads rows of all symbols; it returns their digest, and the cursors before and after them.
func subscribe(
	ctx context.Context, query queryv1.QueryServiceClient, dataset string, rows uint64,
) (received Digest, after, until string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := query.Subscribe(ctx)
	if err != nil {
		return
	}
	start := &queryv1.SubscribeRequest_Start{
		Dataset: dataset,
		Symbols: &queryv1.SymbolSelection{All: true},
		At:      &queryv1.SubscribeRequest_Start_Now{Now: true},
	}
	if err = stream.Send(&queryv1.SubscribeRequest{Message: &queryv1.SubscribeRequest_Start_{Start: start}}); err != nil {
		return
	}
	for received.Rows < rows {
		message, failure := stream.Recv()
		if failure != nil {
			return received, after, until, failure
		}
		for _, gap := range message.Gaps {
			log.Printf("gap: %v", gap)
		}
		for _, batch := range message.Batches {
			received.Add(batch)
		}
		if after == "" {
			after = message.Cursor
		}
		if message.Cursor != "" {
			until = message.Cursor
		}
	}
	return
}

// compare asks for the digest of the tape between two cursors, part by part.
func compare(
	ctx context.Context, query queryv1.QueryServiceClient, dataset string, received Digest, after, until string,
) error {
	var onTape Digest
	for complete := false; !complete; {
		page, err := query.GetDigest(ctx, &queryv1.GetDigestRequest{Dataset: dataset, After: after, Until: until})
		if err != nil {
			return err
		}
		if err := onTape.AddHex(page.Digest, page.Rows); err != nil {
			return err
		}
		after, complete = page.Cursor, page.Complete
	}
	if onTape != received {
		return fmt.Errorf("received %d rows, %s; the tape has %d, %s", received.Rows, received, onTape.Rows, onTape)
	}
	fmt.Printf("%d rows, as on the tape: %s\n", received.Rows, received)
	return nil
}
