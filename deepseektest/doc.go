// Package deepseektest provides a fake DeepSeek API for tests: the paths,
// errors, limits and streams of the real one, and all of its ways to fail.
//
// The smallest use is a server and its URL. Any key is good, and each answer
// is a readable text made from the question, the same every time:
//
//	s := deepseektest.NewServer()
//	defer s.Close()
//	client, err := deepseek.New(deepseek.WithBaseURL(s.URL), deepseek.WithAPIKeys("sk-test"))
//
// # Faults
//
// A [Reply] says what happens to one request. Enqueue lines replies up for the
// next requests, and And combines them:
//
//	s.Enqueue(
//		deepseektest.ServiceUnavailable().And(deepseektest.WithRetryAfter("2")),
//		deepseektest.Queued(30, 10*time.Second).And(deepseektest.ResetAfter(20)),
//		deepseektest.FinishAfter(5, "insufficient_system_resource"),
//	)
//
// When the order of requests is not known, Handle decides by looking at each:
//
//	s.Handle(func(r *deepseektest.Request) *deepseektest.Reply {
//		if r.Model == "deepseek-v4-pro" {
//			re := deepseektest.StallAfter(3)
//			return &re
//		}
//		return nil // a normal answer
//	})
//
// And Timeline plays the story of an outage, counted from its call:
//
//	s.Timeline(
//		deepseektest.Phase{From: time.Minute, To: 3 * time.Minute,
//			Reply: deepseektest.ServiceUnavailable()},
//		deepseektest.Phase{From: 4 * time.Minute, Do: func(s *deepseektest.Server) {
//			s.SetLimit("team", "deepseek-flash", 5)
//		}},
//	)
//
// # Accounts
//
// Limits, balance and context cache belong to an account, whichever of its keys
// is used. A request counts against the limit of its account and model from its
// arrival until just before the last bytes are sent, or until the client goes
// away; one too many gets a 429 at once:
//
//	s := deepseektest.NewServer(deepseektest.WithAccount(deepseektest.Account{
//		Name:    "team",
//		Keys:    []string{"sk-1", "sk-2"},
//		Balance: 0.05,
//		Limits:  map[string]int{"deepseek-flash": 20},
//	}))
//
// An account may have a pace of its own. Afterwards Requests, MaxInFlight, Count
// and Spent tell what happened; an observer (WithObserver) is told meanwhile.
//
// # Time
//
// By default nothing takes time. [Pace] gives answers a realistic speed, and in
// a testing/synctest bubble a server made by [NewMemoryServer] runs on virtual
// time: a ten-minute queue takes no time at all.
//
//	synctest.Test(t, func(t *testing.T) {
//		s := deepseektest.NewMemoryServer(deepseektest.WithPace(deepseektest.Pace{
//			Queue:      10 * time.Second,
//			FirstToken: time.Second,
//			Token:      20 * time.Millisecond,
//		}))
//		defer s.Close()
//		client, err := deepseek.New(deepseek.WithBaseURL(s.URL),
//			deepseek.WithTransport(s.Transport()), ...)
//		...
//	})
//
// # What is served
//
//   - POST /chat/completions, also under /v1 and /beta. A last assistant
//     message with prefix set is continued under /beta: the answer to the same
//     messages, by default or by the last reply that gave one, goes on at the
//     very byte where the prefix ends.
//   - POST /beta/completions, POST /responses, POST /anthropic/v1/messages.
//   - GET /models, /models/{id}, /user/balance, and a minimal /files.
//   - 404 for everything else.
//
// # How it differs from the real one
//
//   - A token is four characters of output or four bytes of prompt, unless
//     configured otherwise.
//   - Prices are the off-peak ones at all hours.
//   - What is not publicly known is a guess, such as the time between
//     keep-alives, the text of a 500, or the order of checks: key, then
//     request, then balance, then limit.
//   - The numbers are those of November 2026. [WithModels] changes them.
package deepseektest
