//go:build !race

package deepseek

const RaceEnabled = false
