package deepseek

import (
	"fmt"
	"maps"
	"math"
	"math/bits"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Price is what a million tokens cost, in units of the currency.
type Price struct {
	CacheHit  float64 // prompt tokens read from the context cache
	CacheMiss float64 // the other prompt tokens
	Output    float64 // completion tokens, reasoning included
}

// ModelPrice is what a model's tokens cost.
type ModelPrice struct {
	OffPeak Price // outside of the peak hours
	Peak    Price // the zero Price: as OffPeak
}

// PeakHours are from and until a time of day in UTC, since midnight. Until
// itself is no longer peak.
type PeakHours struct {
	From  time.Duration // at least 0
	Until time.Duration // more than From, at most 24 h
}

// Prices are what tokens cost, as data: start from [PricesUSD] or [PricesCNY]
// and change what is different. The zero value is PricesUSD.
type Prices struct {
	// Currency is the unit of all amounts, such as "USD".
	Currency string
	// Models are the prices by the model's name.
	Models map[string]ModelPrice
	// Aliases are other names that are billed as one of Models. A name that ends
	// in * stands for all that begin so; of several the longest counts.
	Aliases map[string]string
	// Peak is when the peak prices hold: in these hours from Monday to Friday,
	// except on Holidays. None: never.
	Peak []PeakHours
	// Holidays are days without peak hours, such as "2026-10-01". A holiday that
	// is missing here makes amounts too high, never too low.
	Holidays []string
}

// PricesUSD returns DeepSeek's prices in US dollars, as published in November
// 2026, with its peak hours and the public holidays of 2026. Holidays of later
// years must be added when they are announced.
//
// Source: https://api-docs.deepseek.com/quick_start/pricing
func PricesUSD() Prices {
	return deepSeekPrices("USD", ModelPrice{
		OffPeak: Price{CacheHit: 0.003, CacheMiss: 0.15, Output: 0.60},
		Peak:    Price{CacheHit: 0.006, CacheMiss: 0.30, Output: 1.20},
	}, ModelPrice{
		OffPeak: Price{CacheHit: 0.022, CacheMiss: 0.66, Output: 1.98},
		Peak:    Price{CacheHit: 0.044, CacheMiss: 1.32, Output: 3.96},
	})
}

// PricesCNY returns DeepSeek's prices in yuan, for accounts that are billed in
// them; otherwise as [PricesUSD].
//
// Source: https://api-docs.deepseek.com/zh-cn/quick_start/pricing
func PricesCNY() Prices {
	return deepSeekPrices("CNY", ModelPrice{
		OffPeak: Price{CacheHit: 0.02, CacheMiss: 1, Output: 4},
		Peak:    Price{CacheHit: 0.04, CacheMiss: 2, Output: 8},
	}, ModelPrice{
		OffPeak: Price{CacheHit: 0.15, CacheMiss: 4.5, Output: 13.5},
		Peak:    Price{CacheHit: 0.30, CacheMiss: 9, Output: 27},
	})
}

func deepSeekPrices(currency string, flash, pro ModelPrice) Prices {
	return Prices{
		Currency: currency,
		Models:   map[string]ModelPrice{ModelFlash: flash, ModelPro: pro},
		Aliases: map[string]string{
			"deepseek-v4-flash":            ModelFlash,
			"deepseek-v4-flash-vision-exp": ModelFlash,
			// https://api-docs.deepseek.com/guides/anthropic_api
			"claude-opus*":   ModelPro,
			"claude-sonnet*": ModelFlash,
			"claude-haiku*":  ModelFlash,
		},
		Peak: []PeakHours{
			{From: 1 * time.Hour, Until: 4 * time.Hour},
			{From: 6 * time.Hour, Until: 10 * time.Hour},
		},
		// The days off from Monday to Friday in the notice of the State Council's
		// General Office of 2025-11-04. Peak hours are within one day in Beijing as
		// in UTC.
		Holidays: []string{
			"2026-01-01", "2026-01-02",
			"2026-02-16", "2026-02-17", "2026-02-18", "2026-02-19", "2026-02-20", "2026-02-23",
			"2026-04-06", "2026-05-01", "2026-05-04", "2026-05-05", "2026-06-19", "2026-09-25",
			"2026-10-01", "2026-10-02", "2026-10-05", "2026-10-06", "2026-10-07",
		},
	}
}

// tokenRate is a Price in billionths for a million tokens.
type tokenRate struct{ hit, miss, output int64 }

// maxPrice keeps every amount within an int64.
const maxPrice = 1e6

func (p Price) rate(field string) (tokenRate, error) {
	var r tokenRate
	for _, f := range []struct {
		name string
		from float64
		to   *int64
	}{{"CacheHit", p.CacheHit, &r.hit}, {"CacheMiss", p.CacheMiss, &r.miss}, {"Output", p.Output, &r.output}} {
		if !(f.from >= 0 && f.from <= maxPrice) {
			return r, badConfig(field+"."+f.name, f.from, "must be from 0 to 1e6 for a million tokens")
		}
		*f.to = int64(math.Round(f.from * unit))
	}
	return r, nil
}

// of is the price of some tokens, and what the context cache has saved of it.
func (r tokenRate) of(u *Usage) (amount, saved Money) {
	hit, miss, output := r.parts(u)
	return hit + miss + output, priceOf(u.PromptCacheHitTokens, r.miss) - hit
}

// parts are what the price consists of.
func (r tokenRate) parts(u *Usage) (hit, miss, output Money) {
	return priceOf(u.PromptCacheHitTokens, r.hit), priceOf(u.PromptCacheMissTokens, r.miss), priceOf(u.CompletionTokens, r.output)
}

// priceOf rounds half up. No tokens and rate within their limits overflow it.
func priceOf(tokens int, perMillion int64) Money {
	hi, lo := bits.Mul64(uint64(tokens), uint64(perMillion))
	lo, carry := bits.Add64(lo, 500_000, 0)
	if hi+carry == 0 { // nearly always, and a division of half the width
		return Money(lo / 1_000_000)
	}
	amount, _ := bits.Div64(hi+carry, lo, 1_000_000)
	return Money(amount)
}

// tariff is Prices made ready for looking up.
type tariff struct {
	currency string
	models   map[string]rates // by name and alias
	starred  []starred        // longest first
	peak     []PeakHours
	holidays map[int64]bool // by days since 1970
}

type rates struct{ offPeak, peak tokenRate }

type starred struct {
	prefix string
	rates
}

func newTariff(p Prices) (*tariff, error) {
	if p.Currency == "" && p.Models == nil && p.Aliases == nil && p.Peak == nil && p.Holidays == nil {
		p = PricesUSD()
	}
	switch {
	case p.Currency == "":
		return nil, badConfig("Prices.Currency", "", "must be told")
	case len(p.Models) == 0:
		return nil, badConfig("Prices.Models", "", "must hold at least one model")
	}
	t := &tariff{currency: p.Currency, models: map[string]rates{}, holidays: map[int64]bool{}}
	for _, set := range []func(Prices) error{t.setModels, t.setAliases, t.setCalendar} {
		if err := set(p); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *tariff) setModels(p Prices) (err error) {
	for _, name := range slices.Sorted(maps.Keys(p.Models)) {
		m, field := p.Models[name], "Prices.Models["+strconv.Quote(name)+"]"
		var r rates
		if r.offPeak, err = m.OffPeak.rate(field + ".OffPeak"); err != nil {
			return err
		}
		if r.peak, err = m.Peak.rate(field + ".Peak"); err != nil {
			return err
		}
		if m.Peak == (Price{}) {
			r.peak = r.offPeak
		}
		t.models[name] = r
	}
	return nil
}

// setAliases gives aliases the prices of their models, which are set by then.
func (t *tariff) setAliases(p Prices) error {
	for _, alias := range slices.Sorted(maps.Keys(p.Aliases)) {
		field, name := "Prices.Aliases["+strconv.Quote(alias)+"]", p.Aliases[alias]
		if _, ok := p.Models[name]; !ok {
			return badConfig(field, name, "is not among the Models")
		}
		if _, ok := p.Models[alias]; ok {
			return badConfig(field, name, "has a price of its own")
		}
		if prefix, ok := strings.CutSuffix(alias, "*"); ok {
			t.starred = append(t.starred, starred{prefix, t.models[name]})
		} else {
			t.models[alias] = t.models[name]
		}
	}
	slices.SortFunc(t.starred, func(a, b starred) int { return len(b.prefix) - len(a.prefix) })
	return nil
}

// setCalendar sets when the peak prices hold.
func (t *tariff) setCalendar(p Prices) error {
	for i, h := range p.Peak {
		if h.From < 0 || h.Until <= h.From || h.Until > 24*time.Hour {
			return badConfig(fmt.Sprintf("Prices.Peak[%d]", i), fmt.Sprintf("%v to %v", h.From, h.Until), "must be within a day and not empty")
		}
	}
	t.peak = slices.Clone(p.Peak)
	for i, day := range p.Holidays {
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			return badConfig(fmt.Sprintf("Prices.Holidays[%d]", i), day, "must be a date such as 2026-10-01")
		}
		t.holidays[at.Unix()/secondsPerDay] = true
	}
	return nil
}

const secondsPerDay = 24 * 60 * 60

// rate returns what a model's tokens cost at a time; false if it is not known.
func (t *tariff) rate(model string, at time.Time) (tokenRate, bool) {
	r, ok := t.models[model]
	if !ok {
		i := slices.IndexFunc(t.starred, func(s starred) bool { return strings.HasPrefix(model, s.prefix) })
		if i < 0 {
			return tokenRate{}, false
		}
		r = t.starred[i].rates
	}
	if t.isPeak(at) {
		return r.peak, true
	}
	return r.offPeak, true
}

func (t *tariff) isPeak(at time.Time) bool {
	at = at.UTC()
	if day := at.Weekday(); day == time.Saturday || day == time.Sunday {
		return false
	}
	seconds := at.Unix()
	ofDay := time.Duration(seconds%secondsPerDay) * time.Second
	for _, h := range t.peak {
		if ofDay >= h.From && ofDay < h.Until {
			return !t.holidays[seconds/secondsPerDay]
		}
	}
	return false
}
