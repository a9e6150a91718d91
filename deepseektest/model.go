package deepseektest

// A Model is one model that a Server offers. Numbers that are zero are those of
// deepseek-flash, but for the prices.
type Model struct {
	// ID is the name in requests and responses.
	ID string
	// Name is the display name in the list of models.
	Name string
	// Aliases are other accepted names, served and billed as ID.
	Aliases []string
	// Context is the hard limit of prompt and max_tokens together.
	Context int
	// MaxOutput is the greatest max_tokens.
	MaxOutput int
	// Concurrency is the published limit of requests in flight per account.
	Concurrency int
	// Images says whether user messages may hold images.
	Images bool
	// Price is what its tokens cost.
	Price Price
}

// A Price is in US dollars per million tokens.
type Price struct {
	CacheHit  float64 // of prompt tokens in the context cache
	CacheMiss float64 // of other prompt tokens
	Output    float64 // of answer tokens, reasoning included
}

// Cost returns what an answer with this usage costs, in US dollars.
func (p Price) Cost(u Usage) float64 {
	return (float64(u.CacheHit)*p.CacheHit +
		float64(u.CacheMiss)*p.CacheMiss +
		float64(u.Completion)*p.Output) / 1e6
}

// DefaultModels returns the two models of November 2026 with their published
// numbers and off-peak prices: deepseek-flash and deepseek-v4-pro.
func DefaultModels() []Model {
	return []Model{{
		ID:          "deepseek-flash",
		Name:        "DeepSeek-V4.1-Flash",
		Aliases:     []string{"deepseek-v4-flash", "deepseek-v4-flash-vision-exp"},
		Context:     1048576,
		MaxOutput:   393216,
		Concurrency: 2500,
		Images:      true,
		Price:       Price{CacheHit: 0.003, CacheMiss: 0.15, Output: 0.60},
	}, {
		ID:          "deepseek-v4-pro",
		Name:        "DeepSeek-V4-Pro",
		Context:     1048576,
		MaxOutput:   393216,
		Concurrency: 500,
		Price:       Price{CacheHit: 0.022, CacheMiss: 0.66, Output: 1.98},
	}}
}

// Usage is the token count of one answer. Prompt is CacheHit plus CacheMiss;
// Completion includes Reasoning.
type Usage struct {
	Prompt     int // CacheHit and CacheMiss together
	Completion int // of the answer, Reasoning included
	Reasoning  int // spent on thinking
	CacheHit   int // of the prompt, in the context cache
	CacheMiss  int // of the prompt, not in it
}

// model finds a model by its id or an alias, nil if there is none.
func (c *config) model(name string) *Model {
	for i := range c.models {
		m := &c.models[i]
		if m.ID == name {
			return m
		}
		for _, a := range m.Aliases {
			if a == name {
				return m
			}
		}
	}
	return nil
}

// modelNames lists the ids as the error text for an unknown model does.
func (c *config) modelNames() string {
	var s string
	for i := range c.models {
		if i > 0 {
			s += ", "
		}
		s += c.models[i].ID
	}
	return s
}

// appendModel appends one entry of GET /models.
func appendModel(b []byte, m *Model) []byte {
	b = append(b, `{"id":`...)
	b = appendString(b, m.ID)
	b = append(b, `,"object":"model","owned_by":"deepseek","name":`...)
	b = appendString(b, m.Name)
	b = append(b, `,"context_window":`+itoa(m.Context)+`,"max_output_tokens":`+itoa(m.MaxOutput)...)
	b = append(b, `,"input_modalities":["text"`...)
	if m.Images {
		b = append(b, `,"image"`...)
	}
	return append(b, `],"output_modalities":["text"],`+
		`"effort":{"supported_levels":["low","high","max"],"default_level":"high"},`+
		`"api_capabilities":{"anthropic_messages":{"system_prompt_update":true}}}`...)
}
