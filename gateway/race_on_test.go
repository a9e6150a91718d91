//go:build race

package gateway_test

// raced is whether the race detector is on.
const raced = true
