package main

import "time"

// target is what Seawall is to reach in a scenario. Zero fields are no target.
type target struct {
	valid    float64 // at least
	goodput  float64 // at least
	attempts float64 // at most
	cache    float64 // at least
	into     float64 // requests into an outage for each 1,000 callers, at most
	first    time.Duration
	recovery time.Duration
}

// geometricTarget is the least geometric mean of the goodputs over all
// scenarios.
const geometricTarget = 0.96
