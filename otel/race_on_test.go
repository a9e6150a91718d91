//go:build race

package otel_test

// The race detector allocates on its own account.
const raced = true
