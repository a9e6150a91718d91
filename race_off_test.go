//go:build !race

package deepseek

const raceEnabled = false
