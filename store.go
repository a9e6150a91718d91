package deepseek

import (
	"container/list"
	"context"
	"sync"
	"time"
)

// Store keeps answers for the response cache ([Cache]). It may be shared by
// many processes: keys are the same in all of them, and values carry all that is
// needed to tell a damaged one. A key is of printable ASCII characters without
// blanks, 74 of them.
//
// A Store holds answers in plain, and whoever can write to it decides what
// callers are answered. It must be safe for concurrent use, and return when the
// context ends. Its errors are reported to the observers, and no call fails for
// them.
type Store interface {
	// Get returns the value of a key: nil, and no error, if there is none. The
	// caller does not change it.
	Get(ctx context.Context, key string) ([]byte, error)
	// Set keeps a value, at most for ttl. The store may keep the slice itself: the
	// caller does not change it any more.
	Set(ctx context.Context, key string, value []byte, ttl time.Duration) error
}

// memoryStore is the default store: the values used last, in so many bytes.
type memoryStore struct {
	max int64

	mu     sync.Mutex
	used   int64
	byKey  map[string]*list.Element
	recent *list.List // of *stored, the one used last in front
}

type stored struct {
	key     string
	value   []byte
	expires time.Time
}

// storedOverhead is about what a value takes beside itself and its key.
const storedOverhead = 256

func (s *stored) size() int64 { return int64(len(s.key) + len(s.value) + storedOverhead) }

func newMemoryStore(maxBytes int64) *memoryStore {
	return &memoryStore{max: maxBytes, byKey: map[string]*list.Element{}, recent: list.New()}
}

func (m *memoryStore) Get(_ context.Context, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byKey[key]
	if e == nil {
		return nil, nil
	}
	s := e.Value.(*stored)
	if !time.Now().Before(s.expires) {
		m.remove(e)
		return nil, nil
	}
	m.recent.MoveToFront(e)
	return s.value, nil
}

func (m *memoryStore) Set(_ context.Context, key string, value []byte, ttl time.Duration) error {
	s := &stored{key: key, value: value, expires: time.Now().Add(ttl)}
	m.mu.Lock()
	defer m.mu.Unlock()
	if old := m.byKey[key]; old != nil {
		m.remove(old)
	}
	if s.size() > m.max {
		return nil
	}
	m.byKey[key] = m.recent.PushFront(s)
	m.used += s.size()
	for m.used > m.max {
		m.remove(m.recent.Back())
	}
	return nil
}

// remove forgets a value. m.mu is held.
func (m *memoryStore) remove(e *list.Element) {
	s := m.recent.Remove(e).(*stored)
	delete(m.byKey, s.key)
	m.used -= s.size()
}

// size is how many values there are, and the bytes that they take.
func (m *memoryStore) size() (n int, bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.byKey), m.used
}
