//go:build race

package deepseek

// RaceEnabled: the race detector allocates by itself, and takes ten times as long.
const RaceEnabled = true
