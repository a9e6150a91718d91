package deepseek

// LeastLoaded is the [Strategy] that takes the account with the largest free
// share of its limit, by weight; among equals they take turns. An account that
// takes three times as long for an answer as is usual, or fails most of its calls,
// gets only what the others have no room for.
type LeastLoaded struct{}

// Choose returns the least loaded of the accounts that are up to it.
func (LeastLoaded) Choose(candidates []Candidate) int {
	var (
		best     int
		bestLoad float64
		bestLame bool
	)
	for i, c := range candidates {
		lame, load := c.lame(), c.Load()
		if i == 0 || !lame && bestLame || lame == bestLame && load < bestLoad {
			best, bestLoad, bestLame = i, load, lame
		}
	}
	return best
}
