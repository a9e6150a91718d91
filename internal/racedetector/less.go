// Package racedetector tells tests of it: it allocates at random, and makes all
// take ten times as long. What a test says of figures, sizes and long times it says
// without it; with it a smaller test goes through the same code.
package racedetector

// Less is how much of something a test does: plain, or raced with the race
// detector on.
func Less[T any](plain, raced T) T {
	if On {
		return raced
	}
	return plain
}
