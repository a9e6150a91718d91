// Failover asks DeepSeek, and another host of its models when DeepSeek fails, and
// answers what it was asked before from memory.
//
//	go run ./examples/failover
//
// Both hosts are fake ones in this process, so no key is needed: the first breaks
// down after the first answer. What a program needs is in newClient.
package main

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

func main() {
	if err := run(context.Background(), os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// newClient makes a client of two hosts. Each gets its own key and no other; the
// second calls the model by a name of its own, and rejects members of the request
// that only DeepSeek knows, so they are left out.
func newClient(first, second string, base http.RoundTripper) (*deepseek.Client, error) {
	return deepseek.New(
		deepseek.WithEndpoints(
			deepseek.Endpoint{
				Name: "deepseek", BaseURL: first,
				Accounts: []deepseek.Account{{Name: "main", Keys: []string{"sk-first"}}},
			},
			deepseek.Endpoint{
				Name: "elsewhere", BaseURL: second, Priority: 1, Dialect: deepseek.DialectOpenAI,
				Accounts: []deepseek.Account{{Name: "spare", Keys: []string{"sk-second"}}},
				Models:   map[string]string{deepseek.ModelFlash: "vendor/deepseek-flash"},
			},
		),
		deepseek.WithCache(deepseek.Cache{}),
		deepseek.WithTransport(base),
	)
}

func run(ctx context.Context, out io.Writer) error {
	first := deepseektest.NewMemoryServer(deepseektest.WithAccount(deepseektest.Account{Keys: []string{"sk-first"}}))
	defer first.Close()
	second := deepseektest.NewMemoryServer(
		deepseektest.WithAccount(deepseektest.Account{Keys: []string{"sk-second"}}),
		deepseektest.WithModels(deepseektest.Model{ID: "vendor/deepseek-flash"}),
	)
	defer second.Close()
	client, err := newClient(first.URL, second.URL, deepseektest.Network(first, second))
	if err != nil {
		return err
	}
	ask := func(question string) error {
		answer, err := client.Chat(ctx, &deepseek.ChatRequest{Messages: []deepseek.Message{deepseek.User(question)}})
		if err != nil {
			return err
		}
		from := answer.Header.Get("Seawall-Endpoint") + " after " + answer.Attempts.String()
		if answer.Header.Get("Seawall-Cache") == "hit" {
			from = "the cache"
		}
		fmt.Fprintf(out, "%s\n  answered by %s\n", question, from)
		return nil
	}
	if err := ask("What is a sea wall?"); err != nil {
		return err
	}
	first.Timeline(deepseektest.Phase{Reply: deepseektest.ServiceUnavailable()})
	fmt.Fprintln(out, "-- the first host breaks down --")
	for _, question := range []string{"And a groyne?", "What is a sea wall?"} {
		if err := ask(question); err != nil {
			return err
		}
	}
	return nil
}
