package deepseek

import (
	"maps"
	"sync"
	"sync/atomic"
)

// maxModels and maxModelName bound what is kept by model: the names come from
// requests.
const (
	maxModels    = 256
	maxModelName = 256 // bytes; no host has one that is half as long
)

// byModel keeps one value a model, made at first use. Beyond maxModels names
// the rest share one value, as do names that are no names; DeepSeek's own models
// always have theirs, whatever else was asked for. Reading takes no lock.
// The zero value is ready; safe for concurrent use.
type byModel[T any] struct {
	values atomic.Pointer[map[string]T] // replaced, never changed
	mu     sync.Mutex
}

// all returns the values; the map must not be changed.
func (m *byModel[T]) all() map[string]T {
	if p := m.values.Load(); p != nil {
		return *p
	}
	return nil
}

// each does something to every value, those included that are being made. No value
// is made meanwhile.
func (m *byModel[T]) each(do func(T)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range m.all() {
		do(v)
	}
}

func (m *byModel[T]) get(model string, create func(model string) T) T {
	if v, ok := m.all()[model]; ok {
		return v
	}
	if len(model) > maxModelName {
		return m.get("", create)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.all()
	if _, ok := old[model]; !ok && len(old) >= maxModels && publishedLimits[model] == 0 {
		model = ""
	}
	if v, ok := old[model]; ok {
		return v
	}
	grown := make(map[string]T, len(old)+1)
	maps.Copy(grown, old)
	v := create(model)
	grown[model] = v
	m.values.Store(&grown)
	return v
}
