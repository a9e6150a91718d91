//go:build race

package main

// raced is whether the race detector is on.
const raced = true
