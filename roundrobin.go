package deepseek

// RoundRobin is the [Strategy] that has the accounts take turns, whatever they
// have to do. Calls of one conversation are spread over all of them, so the
// context cache helps little.
type RoundRobin struct{}

// Choose returns the account whose turn it is.
func (RoundRobin) Choose([]Candidate) int { return 0 }
