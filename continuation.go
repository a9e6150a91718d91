package deepseek

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"unicode/utf8"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// continuation is what has come of an answer so far, and the means to get the
// rest of it.
type continuation struct {
	by     *resumer
	next   http.RoundTripper
	call   *call
	req    *http.Request                 // as it came to this layer
	get    func() (io.ReadCloser, error) // its body
	length int64
	model  string // that it names

	content, reasoning []byte
	thinks             bool  // it has a reasoning_content, if an empty one
	begun              bool  // something of it has come
	no                 error // why it can no longer be continued, by what has come

	now   part   // the part that comes now
	parts []part // those before it
	tries int    // continuations so far
	paid  int    // what they cost the retry budget

	prepaid bool // the next one is paid for

	resumed bool // there was one that brought something
	gone    bool // the last one brought nothing

	asked   *prefixRequest // what the caller asked for; read when it is needed
	askedNo error          // why no answer to it can be continued
}

// part is one attempt's share of the answer.
type part struct {
	told             []byte // its usage, raw, if it told one
	pieces, thoughts int    // of text; of those, how many were reasoning
	bytes            int
}

// bytesPerPiece is up to how long pieces of text may be, on average, if each is
// to pass for a token.
const bytesPerPiece = 12

// text takes in a raw piece of the answer, which may be nil.
func (k *continuation) text(content, reasoning []byte) {
	before := len(k.content) + len(k.reasoning)
	var err error
	if k.content, err = appendText(k.content, content); err != nil {
		k.spoil("a text cannot be read")
	}
	if k.reasoning, err = appendText(k.reasoning, reasoning); err != nil {
		k.spoil("a text cannot be read")
	}
	k.begun = true
	k.now.bytes += len(k.content) + len(k.reasoning) - before
}

func appendText(dst, raw []byte) ([]byte, error) {
	if raw == nil || isVoid(raw) {
		return dst, nil
	}
	return jsonscan.AppendString(dst, raw)
}

// spoil notes that something has come that cannot be continued.
func (k *continuation) spoil(why refusal) {
	k.begun = true
	if k.no == nil {
		k.no = why
	}
}

// mayBeLonger reports whether an answer that ended with finish_reason length may
// go on: not if that was the caller's own bound.
func (k *continuation) mayBeLonger() bool {
	return k.begun && k.refusal() == nil && len(k.asked.limits) == 0
}

// refusal is why the answer, as it stands, is not continued; nil if it can be.
func (k *continuation) refusal() error {
	if k.tries >= k.by.policy.MaxContinuations {
		return refusal(fmt.Sprintf("it was continued %d times", k.tries))
	}
	if !k.begun { // it may begin anew, whatever it is
		return nil
	}
	switch {
	case k.no != nil:
		return k.no
	case k.noPrefix():
		return refusal("where it came from there is no prefix completion")
	}
	if k.asked == nil && k.askedNo == nil {
		k.asked, k.askedNo = k.read()
	}
	switch p := k.asked; {
	case k.askedNo != nil:
		return k.askedNo
	case p.tools && !k.by.policy.Tools:
		return refusal("the request offers tools")
	case p.extends() && len(p.prefix.content) > 0 && len(k.content) == 0:
		return refusal("it was still thinking about a prefix that has text already")
	case p.straddles(k.tail()):
		return refusal("it ends in the beginning of a stop")
	case len(p.limits) > 0:
		if _, ok := k.tokens(); !ok {
			return refusal("max_tokens is set, and how many tokens have come cannot be known")
		}
	}
	return nil
}

// tail is the text that goes on.
func (k *continuation) tail() []byte {
	if len(k.content) > 0 {
		return k.content
	}
	return k.reasoning
}

// prefix is the text that the next part is asked to go on from: in a request
// that ends in a prefix, with that.
func (k *continuation) prefix() []byte {
	if len(k.content) > 0 {
		return k.asked.wholeContent(k.content)
	}
	return k.asked.wholeReasoning(k.reasoning)
}

// read reads what the caller asked for.
func (k *continuation) read() (*prefixRequest, error) {
	rc, err := k.get()
	if err != nil {
		return nil, fmt.Errorf("getting the request body again: %w", err)
	}
	defer rc.Close()
	data, err := io.ReadAll(rc)
	if err != nil {
		return nil, fmt.Errorf("reading the request body again: %w", err)
	}
	return readPrefixRequest(data)
}

// tokens is how many tokens have come, if that can be known.
func (k *continuation) tokens() (n int64, ok bool) {
	ok = true
	add := func(p *part) {
		if u := p.usage(); u != nil {
			n += int64(u.CompletionTokens)
			return
		}
		n += int64(p.pieces)
		ok = ok && p.bytes <= bytesPerPiece*p.pieces
	}
	for i := range k.parts {
		add(&k.parts[i])
	}
	add(&k.now)
	return n, ok
}

func (p *part) usage() *Usage {
	var r reported
	told := jsonscan.NewCursor(p.told)
	if r.decode(&told); !r.any {
		return nil
	}
	u := r.usage()
	return &u
}

// before is what the parts before the present one used, if that used u.
func (k *continuation) before(u *Usage) *Usage {
	sum, next := Usage{}, *u
	for i := len(k.parts) - 1; i >= 0; i-- {
		p := &k.parts[i]
		if p.bytes == 0 { // an attempt that was made once more, as others are below
			continue
		}
		told := p.usage()
		if told == nil {
			n := p.pieces
			if n == 0 { // it was no stream
				n = (p.bytes + bytesPerToken - 1) / bytesPerToken
			}
			prompt := max(0, next.PromptTokens-n)
			told = &Usage{
				PromptTokens: prompt, PromptCacheMissTokens: prompt,
				CompletionTokens: n, ReasoningTokens: p.thoughts, TotalTokens: prompt + n,
			}
		}
		sum, next = sum.Plus(*told), *told
	}
	return &sum
}

// told is what the parts that told their usage used; nil if none did.
func (k *continuation) told() (sum *Usage) {
	for i := range k.parts {
		u := k.parts[i].usage()
		switch {
		case u == nil, k.parts[i].bytes == 0:
		case sum == nil:
			sum = u
		default:
			both := sum.Plus(*u)
			sum = &both
		}
	}
	return sum
}

// total is the usage of the whole answer, if its last part told raw.
func (k *continuation) total(raw []byte) []byte {
	p := part{told: raw}
	u := p.usage()
	if u == nil {
		return raw
	}
	before := k.before(u)
	if before.TotalTokens == 0 {
		return raw
	}
	sum := before.Plus(*u)
	told := before
	if k.gone {
		told = &sum
	}
	k.call.mu.Lock()
	k.call.rare().before = told
	k.call.mu.Unlock()
	var whole Usage
	_ = whole.decode(raw) // for what else is in it
	for _, name := range []string{"prompt_tokens_details", "completion_tokens_details"} {
		delete(whole.Extra, name) // whole objects, of one part's numbers
	}
	extra := whole.Extra
	whole = sum
	whole.Extra = extra
	data, err := whole.MarshalJSON()
	if err != nil {
		return raw
	}
	return data
}

// errAnew is why a continuation is of no use.
var errAnew = refusal("what came to continue it began the answer anew")

// errLength stands for a fault in a part that ended with finish_reason length.
var errLength = errors.New("finish_reason length")

// send asks for the rest of the answer, which has ended because of cause; v is
// what that says of the server. If nothing of the answer has come, it begins
// anew. The response is a 200. An error is why there is none; if ctx has ended,
// it says so.
func (k *continuation) send(ctx context.Context, cause error, v verdict) (*http.Response, error) {
	c := k.call
	err := k.refusal()
	var body []byte
	if err == nil && k.begun {
		used, _ := k.tokens()
		body, err = k.asked.rest(k.content, k.reasoning, k.thinks, used)
	}
	if err == nil {
		err = k.wait(ctx, v)
	}
	if k.prepaid { // and not needed
		k.retrier().budget.refund(1)
		k.prepaid = false
	}
	if err != nil {
		return nil, k.refused(cause, err)
	}
	req, err := k.request(ctx, body)
	if err != nil {
		return nil, k.refused(cause, err)
	}
	k.parts = append(k.parts, k.now)
	c.brokeOff(cause, k.told())
	k.now, k.gone = part{}, false
	k.tries++

	c.watch.resume(k.event(cause, c.sent()+1, nil))
	c.continues = body != nil
	resp, err := k.roundTrip(req)
	c.continues = false
	c.body.abandon()
	switch {
	case err != nil:
	case resp.StatusCode >= 300:
		err = errorFromResponse(resp, nil)
	case k.noPrefix() && body != nil:
		discard(resp)
		err = refusal("it was sent to where there is no prefix completion")
	default:
		return resp, nil
	}
	return nil, k.unsend(cause, err)
}

// noPrefix reports whether the attempt under way goes, or the last one went, to
// a place without DeepSeek's prefix completion.
func (k *continuation) noPrefix() bool { return !k.by.policy.AnyHost && !k.call.to.atDeepSeek() }

// roundTrip sends a request. While a breaker is open, or no account fit for use,
// it waits: there is half an answer to lose.
func (k *continuation) roundTrip(req *http.Request) (*http.Response, error) {
	for tries := 0; ; tries++ {
		resp, err := k.call.pass(k.next, req)
		in := retryIn(err)
		if in == 0 || !k.begun || tries == k.by.policy.MaxContinuations {
			return resp, err
		}
		if no := k.wait(req.Context(), verdict{outcome: refused, wait: in}); no != nil {
			if isContextError(no) {
				err = no
			}
			return nil, err
		}
		if err := k.call.again(); err != nil {
			return nil, err
		}
	}
}

// unsend takes back that a part was asked for: it is not to be had.
func (k *continuation) unsend(cause, why error) error {
	k.parts, k.now, k.gone = k.parts[:len(k.parts)-1], k.parts[len(k.parts)-1], true
	return k.refused(cause, why)
}

// goesOn notes that a further part has come.
func (k *continuation) goesOn() {
	if !k.resumed {
		k.resumed = true
		k.by.counts.resumed.Add(1)
	}
}

// refused tells the observers that the answer is not continued after all.
func (k *continuation) refused(cause, why error) error {
	if !isContextError(why) {
		k.call.watch.resume(k.event(cause, 0, why))
	}
	return why
}

func (k *continuation) event(cause error, attempt int, why error) ResumeEvent {
	return ResumeEvent{
		Context: k.call.Context, Model: k.call.model, Cause: cause, Attempt: attempt, Refused: why,
		Kept: utf8.RuneCount(k.content) + utf8.RuneCount(k.reasoning),
	}
}

// wait waits as a retry would.
func (k *continuation) wait(ctx context.Context, v verdict) error {
	c := k.call
	if v.outcome == answered {
		if !c.mayTryAgain() {
			return errNoAttempts
		}
		return gaveUp(ctx)
	}
	reason := "continue after " + v.outcome.String()
	if k.prepaid {
		v.outcome = refused // that is free
	}
	wait, cost, err := k.retrier().grant(c, v, k.tries)
	if err != nil {
		return err
	}
	if k.prepaid {
		cost, k.prepaid = 1, false
	}
	k.paid += cost
	c.watch.wait(c, reason, wait)
	if err := sleep(ctx, wait); err != nil {
		return err
	}
	c.waited += wait
	return nil
}

// request is the request for the rest; with no body the caller's once more.
func (k *continuation) request(ctx context.Context, body []byte) (*http.Request, error) {
	req := k.req.WithContext(ctx)
	get, length := k.get, k.length
	if body != nil {
		req.URL = betaURL(req.URL)
	}
	if k.call.model != k.model { // it goes on with the model that it is of
		if body == nil {
			rc, err := k.get()
			if err != nil {
				return nil, fmt.Errorf("getting the request body again: %w", err)
			}
			body, err = io.ReadAll(rc)
			_ = rc.Close()
			if err != nil {
				return nil, fmt.Errorf("reading the request body again: %w", err)
			}
		}
		body, _ = form{model: k.call.model}.apply(body)
	}
	if body != nil {
		get, length = replay(body), int64(len(body))
	}
	return req, k.call.body.restock(req, get, length)
}

// completed notes that the answer is whole: what it cost the budget comes back.
func (k *continuation) completed() {
	if k.paid > 0 {
		k.retrier().budget.refund(k.paid)
	}
	k.paid = 0
}

// retrier is whose policy and budget hold.
func (k *continuation) retrier() *retrier {
	if k.call.retry != nil {
		return k.call.retry
	}
	return k.by.retry
}

// unfinished is the error that an answer ends in which was not continued.
func (k *continuation) unfinished(cause, why error) error {
	var cut *TruncatedError
	var api *APIError
	told := &TruncatedError{Reason: "stream broke off", Err: cause, Continuation: why}
	switch {
	case errors.As(cause, &cut):
		told.Reason, told.Err = cut.Reason, cut.Err
	case errors.Is(cause, ErrStalled):
		told.Reason = "stream stalled"
	case errors.As(cause, &api):
		told.Reason, told.Err = "the server reported an error", api.after(k.call.trail())
	}
	return told
}
