package main

import (
	"sync"
	"time"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// The second act: so many calls at once, on an account with room for so few.
const (
	crowd = 12
	room  = 4
)

// story is a fake DeepSeek on a bad day. There are two accounts: "spare" has no
// money left, and one of the two keys of "harbour" was revoked. The other one
// works, and meets a 503, a stream that dies, and a queue.
type story struct {
	server *deepseektest.Server

	mu     sync.Mutex
	faults []deepseektest.Reply // what the next requests of "harbour" get
}

func startStory() *story {
	s := &story{
		faults: []deepseektest.Reply{
			deepseektest.ServiceUnavailable(),
			deepseektest.DropAfter(0),                    // a 200 that dies before its first data
			deepseektest.Queued(3, 250*time.Millisecond), // keep-alives, then the answer
		},
	}
	s.server = deepseektest.NewMemoryServer(
		deepseektest.WithAccount(deepseektest.Account{
			Name: "harbour", Keys: []string{"sk-harbour-1", "sk-harbour-2"},
			Limits: map[string]int{deepseek.ModelFlash: room},
		}),
		deepseektest.WithAccount(deepseektest.Account{Name: "spare", Keys: []string{"sk-spare"}, Balance: -1}),
		deepseektest.WithPace(deepseektest.Pace{Headers: 30 * time.Millisecond, FirstToken: 60 * time.Millisecond, Token: 20 * time.Millisecond}),
		deepseektest.WithAnswer(answer),
	)
	s.server.RevokeKey("sk-harbour-2")
	s.server.Handle(s.next)
	return s
}

// options are those of a program with two accounts; all policies are the
// defaults.
func (s *story) options() []deepseek.Option {
	return []deepseek.Option{
		deepseek.WithBaseURL(s.server.URL),
		deepseek.WithTransport(s.server.Transport()),
		deepseek.WithStrategy(deepseek.RoundRobin{}), deepseek.WithAccounts(
			deepseek.Account{Name: "harbour", Keys: []string{"sk-harbour-1", "sk-harbour-2"}},
			deepseek.Account{Name: "spare", Keys: []string{"sk-spare"}},
		),
	}
}

func (s *story) next(r *deepseektest.Request) *deepseektest.Reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Account != "harbour" || r.Method != "POST" || len(s.faults) == 0 {
		return nil
	}
	fault := s.faults[0]
	s.faults = s.faults[1:]
	return &fault
}

// calm drops the faults that were not met.
func (s *story) calm() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

func answer(r *deepseektest.Request) deepseektest.Answer {
	if r.LastUser() == question {
		return deepseektest.Answer{Content: "A curved face turns the wave back on itself. Water that runs up a plain wall goes " +
			"over the top; a curve sends it out to sea again, so that a lower wall keeps out the same storm. " +
			"The wall does not stop the sea. It gives each wave somewhere else to go."}
	}
	return deepseektest.Answer{Content: "2.4 m above the mark, and falling."}
}
