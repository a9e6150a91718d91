package deepseek

import (
	"math"
	"sync"
	"sync/atomic"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// tally counts what one attempt brings: the usage, if the answer tells it, and
// else enough to estimate it. The guard fills it in; nothing of it allocates.
type tally struct {
	accepted atomic.Bool // the status was a 2xx

	mu       sync.Mutex // an answer may end on another goroutine than it is read on
	told     bool       // the answer told its usage
	begun    bool       // but only at its beginning: the output was still to come
	reported reported
	model    string // that the answer names, if it is another than was asked for

	// Of the data received.
	bytes  int
	events int32
	least  int32 // bytes of the smallest event
}

// event counts an event of a stream.
func (t *tally) event(size int) {
	t.mu.Lock()
	if n := int32(size); t.events == 0 || n < t.least {
		t.least = n
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

// note notes what an answer tells of its usage. begun is for the Anthropic
// format's message_start, which knows the prompt only.
func (t *tally) note(c *call, r reported, model []byte, begun bool) {
	if !r.any {
		return // none, or another format's
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reported, t.told, t.begun = r, true, begun
	if len(model) > 0 && t.model == "" && !jsonscan.Equal(model, c.hostModel()) {
		t.model = modelName(model)
	}
}

// noteIn notes the usage that an event holds, and reports whether it does. Of
// what an answer tells several times, the last counts.
func (t *tally) noteIn(c *call, object []byte, begun bool) (has bool) {
	t.mu.Lock()
	r := t.reported
	t.mu.Unlock()
	r.any = false
	var model []byte
	cursor := jsonscan.NewCursor(object)
	if cursor.Object() {
		for cursor.Key() {
			switch string(cursor.Name) {
			case "usage":
				has = true
				r.decode(&cursor)
			case "model":
				model = cursor.Value()
			default:
				cursor.Skip()
			}
		}
	}
	t.note(c, r, model, begun)
	return has
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
	case !t.accepted.Load() || !generation:
		return s, false
	case t.bytes == 0 && (c.stream || v.outcome != cancelled):
		return s, false
	}
	if !t.told {
		s.PromptCacheMissTokens = promptTokens(size)
		s.PromptTokens = s.PromptCacheMissTokens
	}
	s.CompletionTokens = max(s.CompletionTokens, int(t.events), (t.bytes-int(t.events)*int(t.least))/bytesPerToken)
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
	any                  bool // what was decoded last told a number that is not 0
}

// decode takes over what the value at the cursor tells.
func (r *reported) decode(c *jsonscan.Cursor) {
	if !c.Object() {
		c.Skip()
		return
	}
	for c.Key() {
		switch string(c.Name) {
		case "prompt_tokens", "input_tokens":
			r.count(&r.prompt, c)
		case "completion_tokens", "output_tokens":
			r.count(&r.completion, c)
		case "total_tokens":
			r.count(&r.total, c)
		case "prompt_cache_hit_tokens":
			r.count(&r.hit, c)
		case "prompt_cache_miss_tokens":
			r.count(&r.miss, c)
			r.hasMiss = true
		case "prompt_tokens_details", "input_tokens_details":
			r.detail("cached_tokens", &r.cached, c)
		case "completion_tokens_details", "output_tokens_details":
			r.detail("reasoning_tokens", &r.reasoning, c)
		case "cache_read_input_tokens":
			r.count(&r.read, c)
			r.isAnthropic = true
		case "cache_creation_input_tokens":
			r.count(&r.written, c)
			r.isAnthropic = true
		default:
			c.Skip()
		}
	}
}

func (r *reported) count(to *int32, c *jsonscan.Cursor) {
	if n, ok := c.Int(); ok {
		*to = int32(min(max(n, 0), math.MaxInt32))
		r.any = r.any || *to > 0
	}
}

// detail counts one member of an object.
func (r *reported) detail(name string, to *int32, c *jsonscan.Cursor) {
	if !c.Object() {
		c.Skip()
		return
	}
	for c.Key() {
		if string(c.Name) == name {
			r.count(to, c)
		} else {
			c.Skip()
		}
	}
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
