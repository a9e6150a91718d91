package deepseek

import (
	"net/http"
	"time"
)

// Meter prices what attempts use, and keeps the totals.
//
// An attempt costs what its answer's usage comes to, at the price of the model asked
// for or, if that has none, of the model that the answer names. At an [Endpoint] that
// is not DeepSeek itself it is the price of that endpoint's own name for the model, or
// unknown. The price is that of the moment at which a stream brought its first data, or
// any other answer was whole. Which moment DeepSeek goes by is not documented; a guide
// by somebody else says that it is when the tokens are processed.
//
// DeepSeek does not document either whether an answer is billed that was not
// read to its end. It is estimated where the answer had begun: the prompt, as
// cache misses, at a token for 4 bytes of the request, and the output at a token
// for an event, or for 4 bytes beyond what every event has, whichever is more. Of
// an answer that is no stream, which the caller did not wait for though the
// server had accepted the request, only the prompt is. Any other attempt without
// data costs nothing: it was refused, or never left the queue, or was never sent.
//
// A Meter is safe for concurrent use. It is made by [NewMeter]; the zero value is of
// no use.
type Meter struct {
	tariff *tariff
	total  *ledger
}

// NewMeter returns a meter that goes by the prices.
func NewMeter(p Prices) (*Meter, error) {
	t, err := newTariff(p)
	if err != nil {
		return nil, err
	}
	return &Meter{tariff: t, total: new(ledger)}, nil
}

// Middleware is the meter as a layer. It prices what the layer of [NewGuard]
// below it counts; without that it prices nothing.
func (m *Meter) Middleware() Middleware { return layer(m.do) }

// Currency is that of all amounts.
func (m *Meter) Currency() string { return m.tariff.currency }

// Spend returns the sum of all attempts so far.
func (m *Meter) Spend() Spend { return m.total.spend() }

// prompt is what a request of that size would cost before it is answered; 0 if
// the model has no price.
func (m *Meter) prompt(model string, size int64) Money {
	rate, _ := m.tariff.rate(model, time.Now())
	amount, _ := rate.of(&Usage{PromptCacheMissTokens: promptTokens(size)})
	return amount
}

func (m *Meter) do(next http.RoundTripper, c *call, req *http.Request) (*http.Response, error) {
	b := &c.bill
	if b.meter != nil { // taken by an earlier attempt, which may not be over yet
		b = new(bill)
	}
	*b = bill{meter: m, target: c.target(), size: req.ContentLength, generation: isGeneration(req.URL.Path)}
	return through(next, req, c, b)
}

// bill is an attempt whose cost is still to be told.
type bill struct {
	*target
	meter *Meter
	tally *tally
	at    int64 // nanoseconds since 1970; 0: no response yet

	size       int64 // of the request, bytes
	generation bool
}

// response notes the moment that the price goes by, and whose tally it is.
func (b *bill) response(c *call, _ *http.Response, _ verdict) { b.note(c) }

func (b *bill) note(c *call) { b.tally, b.at = c.counted(), time.Now().UnixNano() }

func (b *bill) finish(c *call, v verdict) {
	if b.at == 0 {
		b.note(c)
	}
	if b.tally == nil {
		return
	}
	u, ok := b.tally.used(c, b.size, b.generation, v)
	if !ok {
		return
	}
	s := Spend{
		Attempts: 1, CacheHitTokens: int64(u.PromptCacheHitTokens), CacheMissTokens: int64(u.PromptCacheMissTokens),
		OutputTokens: int64(u.CompletionTokens),
	}
	at := time.Unix(0, b.at)
	rate, known := b.meter.tariff.rate(b.model, at)
	if !known && b.atDeepSeek() {
		rate, known = b.meter.tariff.rate(u.model, at)
	}
	if known {
		s.Amount, s.Saved = rate.of(&u.Usage)
	} else {
		s.Unpriced = 1
	}
	if u.estimated {
		s.Estimated = s.Amount
	}
	b.meter.total.add(s, b.meter.tariff.currency)
	if b.slot != nil {
		b.slot.ledger.add(s, b.meter.tariff.currency)
	}
	c.charge(Cost{Amount: s.Amount, Currency: b.meter.tariff.currency, Saved: s.Saved, Estimated: u.estimated, Unpriced: !known})
	if c.watch.wantCharges() {
		e := ChargeEvent{
			Context: c.Context, Endpoint: b.label(), Account: b.account(), Model: b.model,
			Usage: u.Usage, Estimated: u.estimated, Peak: known && b.meter.tariff.isPeak(at), Unpriced: !known,
			Saved: s.Saved, Currency: b.meter.tariff.currency,
		}
		e.CacheHit, e.CacheMiss, e.Output = rate.parts(&u.Usage)
		c.watch.charge(e)
	}
}
