package deepseek_test

import (
	"context"
	"fmt"

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
