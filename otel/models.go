package otel

import (
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seawall-go/deepseek"
)

// other is what metrics call a model that has no name of its own in them.
const other = "_OTHER"

// models are the names of models that metrics tell. Reading takes no lock.
type models struct {
	most  int
	known atomic.Pointer[map[string]bool] // replaced, never changed
	mu    sync.Mutex
}

func newModels(names []string, most int) *models {
	m := &models{most: most}
	known := map[string]bool{}
	if names == nil {
		p := deepseek.PricesUSD()
		for name := range p.Models {
			known[name] = true
		}
		for name := range p.Aliases {
			known[name] = true
		}
	}
	for _, name := range names {
		known[name] = true
	}
	m.known.Store(&known)
	return m
}

// name is what metrics call a model.
func (m *models) name(model string) string {
	if model == "" || (*m.known.Load())[model] {
		return model
	}
	return other
}

// answered gives a model a name of its own: there is one that is called so.
func (m *models) answered(model string) {
	if model == "" || shortened(model) != model || (*m.known.Load())[model] {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := *m.known.Load()
	if len(old) >= m.most {
		return
	}
	grown := maps.Clone(old)
	grown[model] = true
	m.known.Store(&grown)
}

// longest is how much of a text from a request is told.
const longest = 128

// shortened is a text from a request as it is told. It is valid UTF-8: one that is
// not would cost an exporter all that it sends together with it.
func shortened(s string) string { return strings.ToValidUTF8(s[:min(len(s), longest)], "") }
