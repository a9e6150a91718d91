package deepseek

import "github.com/seawall-go/deepseek/internal/jsonscan"

// Usage is what an answer cost in tokens. Prompt tokens are hits and misses of
// the context cache together; completion tokens include reasoning tokens.
//
// Source: https://api-docs.deepseek.com/api/create-chat-completion
type Usage struct {
	PromptTokens     int // of all messages
	CompletionTokens int // of the answer
	TotalTokens      int // both together

	PromptCacheHitTokens  int // read from the context cache, at 1/30 to 1/50 of the price
	PromptCacheMissTokens int // not in the context cache, at the full price
	CachedTokens          int // prompt_tokens_details.cached_tokens, the same as PromptCacheHitTokens
	ReasoningTokens       int // completion_tokens_details.reasoning_tokens, spent on thinking

	// Extra is what else the server sent. A details object with more in it than
	// the fields above is here as a whole.
	Extra Extra
}

// Plus returns the sum of two usages, field by field, for totals over calls. The
// sum has no Extra.
func (u Usage) Plus(v Usage) Usage {
	return Usage{
		PromptTokens:          u.PromptTokens + v.PromptTokens,
		CompletionTokens:      u.CompletionTokens + v.CompletionTokens,
		TotalTokens:           u.TotalTokens + v.TotalTokens,
		PromptCacheHitTokens:  u.PromptCacheHitTokens + v.PromptCacheHitTokens,
		PromptCacheMissTokens: u.PromptCacheMissTokens + v.PromptCacheMissTokens,
		CachedTokens:          u.CachedTokens + v.CachedTokens,
		ReasoningTokens:       u.ReasoningTokens + v.ReasoningTokens,
	}
}

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (u *Usage) UnmarshalJSON(data []byte) error { return unmarshal(data, u.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (u Usage) MarshalJSON() ([]byte, error) { return marshal(u.encode) }

func decodeUsage(value []byte, dst **Usage) bool {
	*dst = nil
	if jsonscan.IsNull(value) {
		return true
	}
	u := new(Usage)
	if u.decode(value) != nil {
		return false
	}
	*dst = u
	return true
}

func (u *Usage) decode(data []byte) error {
	return decodeObject(data, &u.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "prompt_tokens":
			return decodeInt(value, &u.PromptTokens)
		case "completion_tokens":
			return decodeInt(value, &u.CompletionTokens)
		case "total_tokens":
			return decodeInt(value, &u.TotalTokens)
		case "prompt_cache_hit_tokens":
			return decodeInt(value, &u.PromptCacheHitTokens)
		case "prompt_cache_miss_tokens":
			return decodeInt(value, &u.PromptCacheMissTokens)
		case "prompt_tokens_details":
			return decodeDetail(value, "cached_tokens", &u.CachedTokens)
		case "completion_tokens_details":
			return decodeDetail(value, "reasoning_tokens", &u.ReasoningTokens)
		}
		return false
	})
}

// decodeDetail sets dst to one member of a details object, and reports whether
// that is all there is in it.
func decodeDetail(value []byte, name string, dst *int) bool {
	*dst = 0
	if jsonscan.IsNull(value) {
		return true
	}
	return decodeMembers(value, func(key, value []byte) bool { return string(key) == name && decodeInt(value, dst) })
}

func (u *Usage) encode(w *jsonWriter) {
	o := w.object(u.Extra)
	o.int("prompt_tokens", int64(u.PromptTokens))
	o.int("completion_tokens", int64(u.CompletionTokens))
	o.int("total_tokens", int64(u.TotalTokens))
	encodeDetail(o, "prompt_tokens_details", "cached_tokens", u.CachedTokens)
	encodeDetail(o, "completion_tokens_details", "reasoning_tokens", u.ReasoningTokens)
	o.int("prompt_cache_hit_tokens", int64(u.PromptCacheHitTokens))
	o.int("prompt_cache_miss_tokens", int64(u.PromptCacheMissTokens))
	o.end()
}

func encodeDetail(o object, name, member string, n int) {
	if n != 0 && o.member(name) {
		d := o.object(nil)
		d.int(member, int64(n))
		d.end()
	}
}
