package main

import (
	"context"
	"time"

	"github.com/seawall-go/deepseek"
)

// seawall is this library tuned for work that has a deadline and is to be done:
// answers that break go on, and an outage is sat out until the deadline, none of
// which is the default. It is told the accounts' keys and no limits.
var seawall = contender{
	name:  "Seawall",
	about: "`deepseek.New` with the accounts' keys, no limits told, `WithStreamResume()`, `WithQueue(Queue{Outages: true})`, and a transport that waits 15 s for response headers",
	open: func(s *site) (client, error) {
		accounts := make([]deepseek.Account, len(s.accounts))
		for i, a := range s.accounts {
			accounts[i] = deepseek.Account{Name: a.name, Keys: a.keys}
		}
		base := s.base.Clone()
		base.ResponseHeaderTimeout = 15 * time.Second
		c, err := deepseek.New(deepseek.WithAccounts(accounts...), deepseek.WithBaseURL(s.url), deepseek.WithTransport(base),
			deepseek.WithStreamResume(), deepseek.WithQueue(deepseek.Queue{Outages: true}))
		if err != nil {
			return nil, err
		}
		return &seawallClient{c}, nil
	},
}

type seawallClient struct{ c *deepseek.Client }

func (s *seawallClient) close() { s.c.Transport().CloseIdleConnections() }

func (s *seawallClient) do(ctx context.Context, q *question) (string, error) {
	req := &deepseek.ChatRequest{Thinking: deepseek.ThinkingOff(), Messages: make([]deepseek.Message, len(q.messages))}
	for i, m := range q.messages {
		req.Messages[i] = deepseek.Message{Role: deepseek.Role(m.Role), Content: m.Content}
	}
	if !q.stream {
		answer, err := s.c.Chat(ctx, req)
		if err != nil {
			return "", err
		}
		return answer.Text(), nil
	}
	stream, err := s.c.ChatStream(ctx, req)
	if err != nil {
		return "", err
	}
	for _, err := range stream.Chunks() {
		if err != nil {
			return "", err
		}
	}
	return stream.Response().Text(), nil
}
