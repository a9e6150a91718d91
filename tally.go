package deepseek

import (
	"math"
	"sync"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// tally counts what one attempt brings: the usage, if the answer tells it, and
// else enough to estimate it. The guard fills it in; nothing of it allocates.
type tally struct {
	mu       sync.Mutex // an answer may end on another goroutine than it is read on
	accepted bool       // the status was a 2xx
	told     bool       // the answer told its usage
	begun    bool       // but only at its beginning: the output was still to come
	reported reported
	model    string // that the answer names, if it is another than was asked for

	// Of the data received.
	events int
	bytes  int
	least  int // bytes of the smallest event
}

func (t *tally) accept() {
	t.mu.Lock()
	t.accepted = true
	t.mu.Unlock()
}

// event counts an event of a stream.
func (t *tally) event(size int) {
	t.mu.Lock()
	if t.events == 0 || size < t.least {
		t.least = size
	}
	t.events++
	t.bytes += size
	t.mu.Unlock()
}

// piece counts what arrived of an answer that is no stream.
func (t *tally) piece(size int) {
	t.mu.Lock()
	t.bytes += size
	t.mu.Unlock()
}

// note notes the usage that an answer tells, or an event of one. Of members
// that are told again, the later counts. begun is for the Anthropic format's
// message_start, which knows the prompt only.
func (t *tally) note(c *call, usage, model []byte, begun bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reported.decode(usage) {
		return // none, or another format's
	}
	t.told, t.begun = true, begun
	if len(model) > 0 && t.model == "" && !jsonscan.Equal(model, c.hostModel()) {
		t.model = modelName(model)
	}
}

// noteIn notes the usage that an object holds, and reports whether it does.
func (t *tally) noteIn(c *call, object []byte, begun bool) bool {
	var usage, model []byte
	for m := jsonscan.Members(object); m.Next(); {
		switch string(m.Key) {
		case "usage":
			usage = m.Value
		case "model":
			model = m.Value
		}
	}
	t.note(c, usage, model, begun)
	return usage != nil
}

// usage is what the answer told.
func (t *tally) usage() (u Usage, told bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reported.usage(), t.told
}

// maxPrompt is the largest context there is, in tokens.
const maxPrompt = 1 << 20

// promptTokens is what a request of that size comes to, in tokens.
func promptTokens(size int64) int { return int(min(max(size, 0)/bytesPerToken, maxPrompt)) }

// used is the usage of an attempt that is over, as far as it is known.
type used struct {
	Usage
	model     string // as in the tally
	estimated bool
}

// used returns what the attempt used. size is that of the request, generation
// whether it asked for an answer of a model. ok is false if there is nothing to
// pay, as far as we know.
func (t *tally) used(c *call, size int64, generation bool, v verdict) (s used, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	s = used{Usage: t.reported.usage(), model: t.model}
	switch {
	case t.told && (!t.begun || v.outcome == answered):
		return s, true
	case !t.accepted || !generation:
		return s, false
	case t.bytes == 0 && (c.stream || v.outcome != cancelled):
		return s, false
	}
	if !t.told {
		s.PromptCacheMissTokens = promptTokens(size)
		s.PromptTokens = s.PromptCacheMissTokens
	}
	s.CompletionTokens = max(s.CompletionTokens, t.events, (t.bytes-t.events*t.least)/bytesPerToken)
	s.TotalTokens = s.PromptTokens + s.CompletionTokens
	s.estimated = true
	return s, true
}

// reported is a usage as answers report it: in the format of chat, of
// /responses, or of Anthropic. The first two count cached tokens in with the
// prompt's, the last one beside it.
type reported struct {
	prompt, completion, total int32
	hit, miss, cached         int32
	reasoning                 int32
	read, written             int32 // Anthropic's

	hasMiss, isAnthropic bool
}

// decode takes over what raw tells, and reports whether it tells a usage.
func (r *reported) decode(raw []byte) bool {
	any := false
	count := func(dst *int32, value []byte) {
		n, ok := jsonscan.Int(value)
		if ok {
			*dst = int32(min(max(n, 0), math.MaxInt32))
			any = any || *dst > 0
		}
	}
	for m := jsonscan.Members(raw); m.Next(); {
		switch string(m.Key) {
		case "prompt_tokens", "input_tokens":
			count(&r.prompt, m.Value)
		case "completion_tokens", "output_tokens":
			count(&r.completion, m.Value)
		case "total_tokens":
			count(&r.total, m.Value)
		case "prompt_cache_hit_tokens":
			count(&r.hit, m.Value)
		case "prompt_cache_miss_tokens":
			count(&r.miss, m.Value)
			r.hasMiss = true
		case "prompt_tokens_details", "input_tokens_details":
			if v, ok := jsonscan.Get(m.Value, "cached_tokens"); ok {
				count(&r.cached, v)
			}
		case "completion_tokens_details", "output_tokens_details":
			if v, ok := jsonscan.Get(m.Value, "reasoning_tokens"); ok {
				count(&r.reasoning, v)
			}
		case "cache_read_input_tokens":
			count(&r.read, m.Value)
			r.isAnthropic = true
		case "cache_creation_input_tokens":
			count(&r.written, m.Value)
			r.isAnthropic = true
		}
	}
	return any
}

// usage is the report in the one form that DeepSeek's own format has.
func (r *reported) usage() Usage {
	u := Usage{
		PromptTokens: int(r.prompt), CompletionTokens: int(r.completion), TotalTokens: int(r.total), ReasoningTokens: int(r.reasoning),
		PromptCacheHitTokens: int(max(r.hit, r.cached)),
	}
	switch read, written := int(r.read), int(r.written); {
	case r.isAnthropic:
		u.PromptCacheHitTokens, u.PromptCacheMissTokens = read, u.PromptTokens+written
		u.PromptTokens += read + written
	case r.hasMiss:
		u.PromptCacheMissTokens = int(r.miss)
	default:
		u.PromptCacheMissTokens = max(0, u.PromptTokens-u.PromptCacheHitTokens)
	}
	u.CachedTokens = u.PromptCacheHitTokens
	if u.TotalTokens == 0 {
		u.TotalTokens = u.PromptTokens + u.CompletionTokens
	}
	return u
}
