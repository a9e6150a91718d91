package deepseek

import (
	"sync"
	"time"
)

// quota is how much an account may use a minute, where it has such a cap. It
// counts exactly, in a window that moves by the second, so that no minute has
// more in it however the calls fall. The zero value has no cap.
type quota struct {
	requestsPerMinute int // 0: no cap
	tokensPerMinute   int

	mu      sync.Mutex
	at      int64 // the second that the window ends with
	seconds [60]spent
	minute  spent   // the sum of the seconds
	answer  float64 // tokens of an answer, smoothed
}

// spent is what was used in some time.
type spent struct{ requests, tokens int }

// bytesPerToken is what a token comes to until the answer tells: about as much in
// English (0.3 tokens a character) as in Chinese (0.6 tokens a character, of three
// bytes), with the JSON around the text
// (https://api-docs.deepseek.com/quick_start/token_usage).
const bytesPerToken = 4

func (q *quota) capped() bool { return q.requestsPerMinute > 0 || q.tokensPerMinute > 0 }

// take takes a call's share and what it is thought to come to in tokens, or
// says when there will be enough (nanoseconds since 1970).
func (q *quota) take(requestBytes int64, now time.Time) (tokens int, until int64) {
	if !q.capped() {
		return 0, 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance(now.Unix())
	tokens = int(max(requestBytes, 0)/bytesPerToken) + int(q.answer)
	if until := q.fits(spent{1, tokens}); until != 0 {
		return 0, until
	}
	q.use(spent{1, tokens})
	return tokens, 0
}

// until is when another call of ordinary size will fit; 0 if it does now.
func (q *quota) until(now time.Time) int64 {
	if !q.capped() {
		return 0
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance(now.Unix())
	return q.fits(spent{1, int(q.answer)})
}

// fits is when there will be room for more; 0 if there is now. A call larger
// than the whole cap fits when nothing else is in the window. q.mu is held.
func (q *quota) fits(more spent) int64 {
	left := q.minute
	for i := range int64(len(q.seconds)) {
		if (q.requestsPerMinute == 0 || left.requests+more.requests <= q.requestsPerMinute) &&
			(q.tokensPerMinute == 0 || left.tokens == 0 || left.tokens+more.tokens <= q.tokensPerMinute) {
			if i == 0 {
				return 0
			}
			return (q.at + i) * int64(time.Second)
		}
		oldest := q.second(q.at + 1 + i)
		left.requests -= oldest.requests
		left.tokens -= oldest.tokens
	}
	return (q.at + int64(len(q.seconds))) * int64(time.Second)
}

// second is where the window keeps a second. q.mu is held, as in what follows.
func (q *quota) second(at int64) *spent { return &q.seconds[at%int64(len(q.seconds))] }

func (q *quota) use(s spent) {
	for _, sum := range []*spent{q.second(q.at), &q.minute} {
		sum.requests += s.requests
		sum.tokens += s.tokens
	}
}

// advance lets the seconds that are over go.
func (q *quota) advance(now int64) {
	if now-q.at >= int64(len(q.seconds)) {
		q.seconds, q.minute, q.at = [60]spent{}, spent{}, now
		return
	}
	for q.at < now {
		q.at++
		gone := q.second(q.at)
		q.minute.requests -= gone.requests
		q.minute.tokens -= gone.tokens
		*gone = spent{}
	}
}

// settle puts the tokens that a call came to in the place of those that were
// thought.
func (q *quota) settle(thought, prompt, answer int, now time.Time) {
	if q.tokensPerMinute == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.correct(prompt+answer-thought, now)
	q.answer += (float64(answer) - q.answer) / smoothing
}

// giveBack takes off the tokens of a call that was not let in.
func (q *quota) giveBack(thought int, now time.Time) {
	if q.tokensPerMinute == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.correct(-thought, now)
}

// unsend takes off a call that was not even sent.
func (q *quota) unsend(thought int, now time.Time) {
	if !q.capped() {
		return
	}
	q.giveBack(thought, now)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.advance(now.Unix())
	if s := q.second(q.at); s.requests > 0 {
		s.requests--
		q.minute.requests--
	}
}

// correct books more tokens, or fewer. What was booked in a second that is past
// stays there.
func (q *quota) correct(more int, now time.Time) {
	q.advance(now.Unix())
	s := q.second(q.at)
	more = max(more, -s.tokens)
	s.tokens += more
	q.minute.tokens += more
}
