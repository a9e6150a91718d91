/*
Package deepseek calls DeepSeek's API so that the calls survive: 429s, 503s,
queues of ten minutes, streams that die in silence, keys that run out of money.

It is a typed client:

	client, err := deepseek.New() // key from DEEPSEEK_API_KEY
	if err != nil { … }
	answer, err := client.Chat(ctx, &deepseek.ChatRequest{
		Messages: []deepseek.Message{deepseek.User("Why is the sky blue?")},
	})
	if err != nil { … }
	fmt.Println(answer.Text())

and the same transport is an *http.Client for the OpenAI SDK that a program has
already, or for any HTTP code:

	hc, err := deepseek.NewHTTPClient(deepseek.WithAPIKeys(key))
	sdk := openai.NewClient(option.WithHTTPClient(hc), option.WithBaseURL(deepseek.DefaultBaseURL),
		option.WithAPIKey("set by the transport"), option.WithMaxRetries(0))

# Default behavior

With no options but a key:

 1. A call is attempted up to 10 times, with jittered waits of up to 8 s, on top of
    what Retry-After says (up to 60 s), and never past the context's deadline.
 2. All calls together may retry 100 times more than success pays for.
 3. Requests in flight are limited for each account and model, to a number that
    is learned from the 429s. A call without room waits its turn, for up to 10
    minutes, among up to 10,000 others; if its deadline is nearer than its
    likely turn, it is told so at once.
 4. If half of at least 20 attempts in 30 s fail, or 20 in a row, the endpoint is
    left alone for 5 s, then for 10 s at a time; afterwards the load comes back
    gradually.
 5. An answer may take 10 minutes to its first data, 120 s between data, and
    60 s without a byte. There is no limit on the whole of it.
 6. An answer counts when it is whole: a stream that ends early is an error.
 7. Nothing is logged, nothing runs in the background, and nothing is shared with
    other processes: see [WithSharedState].

# Layers

A call goes through these, outermost first. Each is a [Middleware], works alone, and
knows nothing of its neighbours. The constructors named return it, but for
[NewMeter] and [NewPool]: what these return has a method Middleware.

	origin    NewOrigin     only the endpoint's own origin gets a key
	observe   NewObserve    one record a call, for hooks and logs
	…         WithMiddleware, the caller's own layers
	cache     NewCache      what was answered before; equal calls in flight (off by default)
	resume    NewResume     an answer that broke goes on (off by default)
	fallback  NewFallback   another model in place of one that cannot answer (off by default)
	retry     NewRetry      which outcomes are tried again, when, how often
	hedge     NewHedge      a second attempt beside one that is late; only WithHedging
	queue     NewQueue      the waiting room, the only place where calls wait for room
	route     NewRoute      which endpoint; each has its own breaker, pool and guard
	breaker   NewBreaker    leaves an endpoint alone that fails
	limit     NewLimit      calls in flight over everything; above several endpoints
	pool      NewPool       which account and key, by a Strategy; learned limits; failover
	rate      NewRateLimit  requests a second
	meter     NewMeter      what an attempt costs
	guard     NewGuard      stalls, cuts, and what counts as an answer
	          (Pool)        puts the key in, so that no layer above ever sees it
	…         WithAttemptMiddleware, the caller's own layers around an attempt
	base      WithTransport an *http.Transport of our own, or the caller's

Below the waiting room no layer waits. One that has no room says so, the call
goes back up holding nothing, waits in line, and on its turn comes down again,
asking the breaker anew. What an attempt came to is judged in one place
(verdict.go), and retry, breaker and pool all go by that verdict. What must
travel with a call is in one record (call.go): it goes beside the request among
these layers, and as the request's context through the caller's own. A permit is held
from sending to the response's end, and given back exactly once: at the last
byte, [DONE], a read error, Close, or the end of the context.

# What each outcome leads to

	outcome of an attempt                       the call                            breaker  account or key
	2xx, complete                               is answered                         success  limit may grow
	400, 404, 413, 422, other 4xx, 501, 505     gets that response                  success
	401                                         next key at once; none: the 401              key aside for 10 min
	402                                         next account at once; none: 402              account aside until its balance is back
	403                                         next key once; else the 403                  key aside for 30 s
	429                                         next account with room; none: waits          limit shrinks
	408, 409, other 5xx                         waits, then again                   failure
	network error, stall, end before data       waits, then again                   failure
	200 that is not whole JSON                  waits, then again                   failure
	first data late, with hedging               another account as well         nothing  nothing, if it loses
	stream breaks after its first data          goes on with WithStreamResume;      failure
	                                            else TruncatedError or StallError
	insufficient_system_resource, aborted       a stream: as a break; else: as 5xx  failure
	certificate, URL, foreign origin            error at once
	the caller gave up                          the context's error at once

With several endpoints, what ends in "waits" goes on to the next endpoint at once
instead, and waits when all have been tried.

While an account is aside for a 402, the transport itself asks for its balance (GET
/user/balance), but not at an [Endpoint] of DialectOpenAI: each account at most every
30 s and for at most 10 s, beside a call that others serve, or before one that nobody
else can serve is refused. That is no attempt: neither Stats.Attempts nor a call's
trail has it. After 5 minutes one call tries it.

# Answers that go on

With [WithStreamResume] a chat completion that broke half way is continued by
DeepSeek's chat prefix completion, and reads as if it had not broken. It is done
above retry, as further attempts of the same call, on the goroutine that reads.
[Resume] tells what is continued and what is not.

# Costs

Every attempt is priced, from the usage that its answer tells and [Prices] that
can be replaced: [Meter] has the rules, [Stats] the sums, [CallEndEvent] the cost
of one call.

# Errors

What the server said is an [*APIError]; a call without a response is a
[*CallError] that wraps the cause. Both tell the attempts made, in one line. What a
server said is in that line, in the errors' texts and in the Seawall-Attempts header,
and may repeat a prompt: for logs there is [LogText]. A stream that
breaks off ends in a [*TruncatedError], from the typed client with what had arrived.
That client also has a [*RequestError] for a request that the API is known to reject,
and an [*AnswerError] for an answer that is not the JSON asked for.

errors.Is tells the class: [ErrAuthentication], [ErrInsufficientBalance],
[ErrInvalidRequest], [ErrRateLimited], [ErrServer], [ErrCircuitOpen], [ErrNoAccount],
[ErrNoEndpoint], [ErrQueueFull], [ErrStalled], [ErrTruncated]. No error, log or
statistic ever holds a key: keys are named by account and fingerprint.

# Testing

Package deepseektest is a fake DeepSeek with scripted faults, for the tests of
this package as well as of programs that use it.
*/
package deepseek
