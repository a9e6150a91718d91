package deepseektest

import (
	"hash/maphash"
	"sync"
)

// A Cache configures the context cache: which part of a prompt counts as a
// hit. The zero value is the default.
//
// The cache keeps prefix units: the input of a request, its input together
// with its finished output, and the prefix that a request has in common with
// an earlier one. A request hits the longest unit that it contains whole.
// Units belong to an account, a model and a user_id.
type Cache struct {
	// Granularity is the number of tokens that hits are rounded down to.
	// Zero means 256.
	Granularity int
	// Interval, if positive, also keeps a unit every so many tokens of a
	// prompt. It is rounded up to a multiple of Granularity.
	Interval int
	// Disabled turns the cache off: every prompt token is a miss.
	Disabled bool
}

// bytesPerToken converts the length of prompts to tokens.
const bytesPerToken = 4

func promptTokens(prompt []byte) int {
	return (len(prompt) + bytesPerToken - 1) / bytesPerToken
}

// cache is the live state of a Cache. It works on blocks of one granularity,
// each identified by a hash of all the prompt up to its end. A unit is a number
// of blocks and a tail shorter than one.
type cache struct {
	off      bool
	block    int // bytes
	interval int // blocks, 0 is none
	seed     maphash.Seed

	mu   sync.Mutex
	part map[partition]*units
}

type partition struct{ account, model, user string }

type units struct {
	stored map[uint64][]string // tails of the units that end in this block
	seen   map[uint64]struct{} // blocks of any earlier prompt
}

// Bounds that keep long simulations from growing without end.
const (
	maxTails  = 64
	maxBlocks = 1 << 18
)

func (c *cache) init(cfg Cache) {
	g := cfg.Granularity
	if g <= 0 {
		g = 256
	}
	c.off = cfg.Disabled
	c.block = g * bytesPerToken
	c.interval = (cfg.Interval + g - 1) / g
	c.seed = maphash.MakeSeed()
	c.part = make(map[partition]*units)
}

// chain returns the hashes of the whole blocks of a prompt.
func (c *cache) chain(prompt []byte) []uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	sums := make([]uint64, 0, len(prompt)/c.block)
	for i := c.block; i <= len(prompt); i += c.block {
		_, _ = h.Write(prompt[i-c.block : i])
		sums = append(sums, h.Sum64())
	}
	return sums
}

// lookup returns the tokens of a prompt that hit, and keeps the prompt's own
// units for later ones.
func (c *cache) lookup(p partition, prompt []byte) (hit int) {
	if c.off || len(prompt) < c.block {
		return 0
	}
	sums := c.chain(prompt)

	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.partition(p)
	var common int
	for k := len(sums); k > 0 && (hit == 0 || common == 0); k-- {
		if hit == 0 {
			rest := prompt[k*c.block:]
			for _, tail := range u.stored[sums[k-1]] {
				if len(tail) <= len(rest) && string(rest[:len(tail)]) == tail {
					hit = k
					break
				}
			}
		}
		if common == 0 {
			if _, ok := u.seen[sums[k-1]]; ok {
				common = k
			}
		}
	}
	if common > 0 {
		u.keep(sums[common-1], "")
	}
	for _, sum := range sums {
		u.seen[sum] = struct{}{}
	}
	if c.interval > 0 {
		for k := c.interval; k <= len(sums); k += c.interval {
			u.keep(sums[k-1], "")
		}
	}
	u.keep(sums[len(sums)-1], string(prompt[len(sums)*c.block:]))
	return hit * c.block / bytesPerToken
}

// store keeps a prompt and its finished output as a unit.
func (c *cache) store(p partition, text []byte) {
	if c.off || len(text) < c.block {
		return
	}
	sums := c.chain(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	u := c.partition(p)
	u.keep(sums[len(sums)-1], string(text[len(sums)*c.block:]))
}

func (c *cache) partition(p partition) *units {
	u := c.part[p]
	if u == nil || len(u.seen) > maxBlocks {
		u = &units{stored: make(map[uint64][]string), seen: make(map[uint64]struct{})}
		c.part[p] = u
	}
	return u
}

func (u *units) keep(sum uint64, tail string) {
	tails := u.stored[sum]
	for i, t := range tails {
		if t == tail {
			// To the end: the one used last is dropped last.
			copy(tails[i:], tails[i+1:])
			tails[len(tails)-1] = tail
			return
		}
	}
	if len(tails) >= maxTails {
		tails = tails[1:]
	}
	u.stored[sum] = append(tails, tail)
}
