package deepseek_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

func ExampleClient_ChatStream() {
	srv := deepseektest.NewServer()
	defer srv.Close()
	srv.Enqueue(deepseektest.Say("Because air scatters blue light most."))

	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	stream, err := client.ChatStream(context.Background(), &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for chunk, err := range stream.Chunks() {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Print(chunk.Text())
	}
	// Output: Because air scatters blue light most.
}

func ExampleNewPool() {
	pool, err := deepseek.NewPool(nil, deepseek.Account{Name: "main", Keys: []string{"sk-secret"}, MaxConcurrency: 25})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range pool.Stats() {
		fmt.Println(a.Name, a.State, len(a.Keys), "key")
	}
	// Output: main active 1 key
}

// Two keys of one account share its limits and its balance; the other account has its
// own, and answers when the first has no money left.
func ExampleWithAccounts() {
	srv := deepseektest.NewServer(
		deepseektest.WithAccount(deepseektest.Account{Name: "main", Keys: []string{"sk-1", "sk-2"}, Balance: -1}),
		deepseektest.WithAccount(deepseektest.Account{Name: "spare", Keys: []string{"sk-3"}}),
	)
	defer srv.Close()

	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAccounts(
		deepseek.Account{Name: "main", Keys: []string{"sk-1", "sk-2"}},
		deepseek.Account{Name: "spare", Keys: []string{"sk-3"}},
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	answer, err := client.Chat(context.Background(), &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("answered by", answer.Attempts[len(answer.Attempts)-1].Account)
	// Output: answered by spare
}

// The first host fails, and the call goes on to the second at once, by that one's own
// name for the model.
func ExampleWithEndpoints() {
	first, second := deepseektest.NewServer(), deepseektest.NewServer(
		deepseektest.WithModels(deepseektest.Model{ID: "vendor/deepseek-flash"}),
	)
	defer first.Close()
	defer second.Close()
	first.Enqueue(deepseektest.ServiceUnavailable())

	client, err := deepseek.New(deepseek.WithEndpoints(
		deepseek.Endpoint{Name: "deepseek", BaseURL: first.URL, Accounts: []deepseek.Account{{Keys: []string{"sk-1"}}}},
		deepseek.Endpoint{
			Name: "elsewhere", BaseURL: second.URL, Priority: 1,
			Accounts: []deepseek.Account{{Keys: []string{"sk-2"}}},
			Models:   map[string]string{deepseek.ModelFlash: "vendor/deepseek-flash"},
		},
	))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	answer, err := client.Chat(context.Background(), &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, a := range answer.Attempts {
		fmt.Println(a.Endpoint, a.Model, a.Status)
	}
	// Output:
	// deepseek deepseek-flash 503
	// elsewhere vendor/deepseek-flash 200
}

func ExampleChatJSON() {
	srv := deepseektest.NewServer()
	defer srv.Close()
	srv.Enqueue(deepseektest.Say(`{"city": "Lisbon", "celsius": 21}`))

	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	type weather struct {
		City    string
		Celsius float64
	}
	w, _, err := deepseek.ChatJSON[weather](context.Background(), client, &deepseek.ChatRequest{
		Messages: []deepseek.Message{
			deepseek.System(`Answer in JSON, such as {"city": "Oslo", "celsius": 4}.`),
			deepseek.User("How warm is it in Lisbon?"),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(w.City, w.Celsius)
	// Output: Lisbon 21
}

func ExampleClient_Chat_tools() {
	srv := deepseektest.NewServer()
	defer srv.Close()
	srv.Enqueue(
		deepseektest.Give(deepseektest.Answer{ToolCalls: []deepseektest.ToolCall{{Name: "tide", Arguments: `{"place": "Dover"}`}}}),
		deepseektest.Say("High water at Dover is at 04:12."),
	)

	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	req := &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("When is high water at Dover?")},
		Tools: []deepseek.Tool{deepseek.FunctionTool("tide", "The time of high water.", json.RawMessage(
			`{"type": "object", "properties": {"place": {"type": "string"}}, "required": ["place"]}`))},
	}
	for range 5 { // a model may ask again and again
		answer, err := client.Chat(context.Background(), req)
		if err != nil {
			fmt.Println(err)
			return
		}
		if len(answer.ToolCalls()) == 0 {
			fmt.Println(answer.Text())
			return
		}
		req.Messages = append(req.Messages, answer.Message()) // whole, with its reasoning
		for _, call := range answer.ToolCalls() {
			var arguments struct{ Place string }
			result := "04:12"
			if err := call.DecodeArguments(&arguments); err != nil {
				result = err.Error() // for the model to mend
			}
			fmt.Println(call.Function.Name, arguments.Place, result)
			req.Messages = append(req.Messages, deepseek.ToolResult(call.ID, result))
		}
	}
	// Output:
	// tide Dover 04:12
	// High water at Dover is at 04:12.
}

func ExampleAPIError() {
	srv := deepseektest.NewServer()
	defer srv.Close()
	srv.Enqueue(deepseektest.APIError(http.StatusUnprocessableEntity, "no such thing"))

	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	_, err = client.Chat(context.Background(), &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
	})
	var api *deepseek.APIError
	if errors.As(err, &api) {
		fmt.Println(api.StatusCode, api.Message)
	}
	fmt.Println("the request is at fault:", errors.Is(err, deepseek.ErrInvalidRequest))
	// Output:
	// 422 no such thing
	// the request is at fault: true
}

func ExampleObserver() {
	srv := deepseektest.NewServer()
	defer srv.Close()
	srv.Enqueue(deepseektest.ServiceUnavailable())

	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"),
		deepseek.WithRetry(deepseek.Retry{MaxInterval: time.Millisecond}),
		deepseek.WithObserver(deepseek.Observer{
			Attempt: func(e deepseek.AttemptEvent) { fmt.Println("attempt:", e.Account, e.Status) },
			Wait:    func(e deepseek.WaitEvent) { fmt.Println("wait:", e.Reason) },
			CallEnd: func(e deepseek.CallEndEvent) { fmt.Println("end:", e.Status, "of", len(e.Attempts)) },
		}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	_, err = client.Chat(context.Background(), &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
	})
	if err != nil {
		fmt.Println(err)
	}
	// Output:
	// attempt: account-1 503
	// wait: retry after fault
	// attempt: account-1 200
	// end: 200 of 2
}

// What each user has cost: the call's context tells whose it is, streams that were left
// and failed attempts included.
func ExampleObserver_costs() {
	srv := deepseektest.NewServer()
	defer srv.Close()

	type user struct{} // the key of a context's value
	var mu sync.Mutex
	spent := map[string]deepseek.Money{}
	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"),
		deepseek.WithObserver(deepseek.Observer{CallEnd: func(e deepseek.CallEndEvent) {
			name, _ := e.Context.Value(user{}).(string)
			mu.Lock()
			defer mu.Unlock()
			spent[name] += e.Cost.Amount
		}}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	for _, name := range []string{"ann", "bob", "ann"} {
		ctx := context.WithValue(context.Background(), user{}, name)
		if _, err := client.Chat(ctx, &deepseek.ChatRequest{
			Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
			UserID:   name,
		}); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Println("ann has spent twice what bob has:", spent["ann"] == 2*spent["bob"])
	fmt.Println("together it is all:", spent["ann"]+spent["bob"] == client.Transport().Stats().Spend.Amount)
	// Output:
	// ann has spent twice what bob has: true
	// together it is all: true
}

func ExampleWithCache() {
	srv := deepseektest.NewServer()
	defer srv.Close()

	client, err := deepseek.New(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-test"),
		deepseek.WithCache(deepseek.Cache{TTL: time.Minute}))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Transport().CloseIdleConnections()
	for range 2 {
		answer, err := client.Chat(context.Background(), &deepseek.ChatRequest{
			Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
		})
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(answer.Header.Get("Seawall-Cache"))
	}
	// Output:
	// miss
	// hit
}

// A program whose configuration has changed goes on with what it has learned: here
// that the account may have 19 calls in flight.
func ExampleTransport_Successor() {
	srv := deepseektest.NewServer()
	defer srv.Close()
	srv.Enqueue(deepseektest.RateLimited(20))

	quick := deepseek.WithRetry(deepseek.Retry{MaxInterval: time.Millisecond})
	t, err := deepseek.NewTransport(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-1"), quick)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer t.CloseIdleConnections() // the successor's too
	resp, err := (&http.Client{Transport: t}).Post(srv.URL+"/chat/completions", "application/json",
		strings.NewReader(`{"model": "deepseek-flash", "messages": [{"role": "user", "content": "Hi"}]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = resp.Body.Close()

	next, err := t.Successor(deepseek.WithBaseURL(srv.URL), deepseek.WithAPIKeys("sk-1", "sk-2"), quick)
	if err != nil {
		fmt.Println(err) // and t is as it was
		return
	}
	stats := next.Stats()
	fmt.Println(stats.Calls, "call,", len(stats.Accounts), "accounts, limit", stats.Accounts[0].Models[0].Limit)
	// Output: 1 call, 2 accounts, limit 19
}
