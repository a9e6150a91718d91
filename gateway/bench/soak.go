package main

import (
	"context"
	"errors"
	"io"
	"time"
)

type soakSettings struct {
	length  time.Duration
	clients int
}

func soak(ctx context.Context, s soakSettings, out io.Writer) error { return errors.New("todo") }
