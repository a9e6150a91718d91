package deepseek

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The tables are those of DeepSeek's price pages, in November 2026.
func TestPublishedPrices(t *testing.T) {
	weekend := time.Date(2026, 11, 21, 2, 0, 0, 0, time.UTC)
	peak := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	const million = 1_000_000
	for _, row := range []struct {
		prices            Prices
		currency, model   string
		at                time.Time
		hit, miss, output string
	}{
		{PricesUSD(), "USD", "deepseek-flash", weekend, "0.003", "0.15", "0.6"},
		{PricesUSD(), "USD", "deepseek-flash", peak, "0.006", "0.3", "1.2"},
		{PricesUSD(), "USD", "deepseek-v4-pro", weekend, "0.022", "0.66", "1.98"},
		{PricesUSD(), "USD", "deepseek-v4-pro", peak, "0.044", "1.32", "3.96"},
		{PricesUSD(), "USD", "deepseek-v4-flash", peak, "0.006", "0.3", "1.2"},
		{PricesUSD(), "USD", "deepseek-v4-flash-vision-exp", weekend, "0.003", "0.15", "0.6"},
		{PricesUSD(), "USD", "claude-opus-5", weekend, "0.022", "0.66", "1.98"},
		{PricesUSD(), "USD", "claude-sonnet-5-20260901", weekend, "0.003", "0.15", "0.6"},
		{PricesCNY(), "CNY", "deepseek-flash", weekend, "0.02", "1", "4"},
		{PricesCNY(), "CNY", "deepseek-flash", peak, "0.04", "2", "8"},
		{PricesCNY(), "CNY", "deepseek-v4-pro", weekend, "0.15", "4.5", "13.5"},
		{PricesCNY(), "CNY", "deepseek-v4-pro", peak, "0.3", "9", "27"},
		{Prices{}, "USD", "deepseek-flash", weekend, "0.003", "0.15", "0.6"},
	} {
		tariff, err := newTariff(row.prices)
		require.NoError(t, err)
		require.Equal(t, row.currency, tariff.currency)
		r, ok := tariff.rate(row.model, row.at)
		require.True(t, ok, row.model)
		for want, u := range map[string]Usage{
			row.hit: {PromptCacheHitTokens: million}, row.miss: {PromptCacheMissTokens: million}, row.output: {CompletionTokens: million},
		} {
			amount, _ := r.of(&u)
			require.Equal(t, want, amount.String(), "%s %s %v", row.currency, row.model, u)
		}
	}
	tariff, err := newTariff(Prices{})
	require.NoError(t, err)
	for _, unknown := range []string{"", "deepseek-chat", "deepseek-flash2", "DeepSeek-V4.1-Flash-1017", "claude"} {
		_, ok := tariff.rate(unknown, peak)
		require.False(t, ok, unknown)
	}
}

func TestPeakHours(t *testing.T) {
	tariff, err := newTariff(PricesUSD())
	require.NoError(t, err)
	beijing := time.FixedZone("Beijing", 8*60*60)
	for at, peak := range map[string]bool{
		"2026-11-23 08:59:59": false, // Monday, Beijing time
		"2026-11-23 09:00:00": true,
		"2026-11-23 11:59:59": true,
		"2026-11-23 12:00:00": false,
		"2026-11-23 13:59:59": false,
		"2026-11-23 14:00:00": true,
		"2026-11-23 17:59:59": true,
		"2026-11-23 18:00:00": false,
		"2026-11-27 17:00:00": true,  // Friday
		"2026-11-28 10:00:00": false, // Saturday
		"2026-10-10 10:00:00": false, // Saturday, a working day in lieu
		"2026-11-29 10:00:00": false, // Sunday
		"2026-09-25 10:00:00": false, // holidays
		"2026-10-01 10:00:00": false,
		"2026-10-07 15:00:00": false,
		"2026-09-30 10:00:00": true, // the days around
		"2026-10-08 10:00:00": true,
	} {
		when, err := time.ParseInLocation(time.DateTime, at, beijing)
		require.NoError(t, err)
		require.Equal(t, peak, tariff.isPeak(when), at)
		require.Equal(t, peak, tariff.isPeak(when.UTC()), at)
	}
	for _, day := range PricesUSD().Holidays {
		at, err := time.Parse(time.DateOnly, day)
		require.NoError(t, err)
		require.NotContains(t, []time.Weekday{time.Saturday, time.Sunday}, at.Weekday(), "%s needs no mention", day)
	}
}

func TestPricesCanBeReplaced(t *testing.T) {
	tariff, err := newTariff(Prices{
		Currency: "EUR",
		Models:   map[string]ModelPrice{"big": {OffPeak: Price{CacheMiss: 2, Output: 0.0036}}, "small": {}},
		Aliases:  map[string]string{"b*": "big", "bi*": "small", "large": "big"},
		Peak:     []PeakHours{{From: 0, Until: 24 * time.Hour}},
	})
	require.NoError(t, err)
	peak := time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC)
	u := Usage{PromptCacheMissTokens: 1_000_000, CompletionTokens: 1}
	for model, want := range map[string]string{"big": "2.000000004", "big2": "0", "b1": "2.000000004", "large": "2.000000004", "small": "0"} {
		r, ok := tariff.rate(model, peak)
		require.True(t, ok, model)
		amount, _ := r.of(&u)
		require.Equal(t, want, amount.String(), model)
	}
}

func TestBadPricesAreRefused(t *testing.T) {
	for _, row := range []struct {
		field  string
		change func(*Prices)
	}{
		{"Prices.Currency", func(p *Prices) { p.Currency = "" }},
		{"Prices.Models", func(p *Prices) { p.Models = nil }},
		{`Prices.Models["deepseek-flash"].OffPeak.CacheHit`, func(p *Prices) { p.Models[ModelFlash] = ModelPrice{OffPeak: Price{CacheHit: -1}} }},
		{`Prices.Models["deepseek-flash"].OffPeak.Output`, func(p *Prices) { p.Models[ModelFlash] = ModelPrice{OffPeak: Price{Output: math.NaN()}} }},
		{`Prices.Models["deepseek-flash"].Peak.CacheMiss`, func(p *Prices) { p.Models[ModelFlash] = ModelPrice{Peak: Price{CacheMiss: math.Inf(1)}} }},
		{`Prices.Aliases["x"]`, func(p *Prices) { p.Aliases["x"] = "y" }},
		{`Prices.Aliases["deepseek-flash"]`, func(p *Prices) { p.Aliases[ModelFlash] = ModelPro }},
		{"Prices.Peak[0]", func(p *Prices) { p.Peak[0].Until = p.Peak[0].From }},
		{"Prices.Peak[1]", func(p *Prices) { p.Peak[1].Until = 25 * time.Hour }},
		{"Prices.Holidays[0]", func(p *Prices) { p.Holidays[0] = "1 October" }},
	} {
		p := PricesUSD()
		row.change(&p)
		_, err := NewMeter(p)
		var bad *ConfigError
		require.ErrorAs(t, err, &bad, row.field)
		require.Equal(t, row.field, bad.Field)
		_, err = NewTransport(WithAPIKeys("k"), WithBaseURL(DefaultBaseURL), WithPrices(p))
		require.ErrorAs(t, err, &bad)
	}
}

func TestMoneyIsExact(t *testing.T) {
	for m, want := range map[Money]string{
		0: "0", 1: "0.000000001", 1_500_000_000: "1.5", -20_000_000: "-0.02", 12_000_000_000: "12", math.MinInt64: "-9223372036.854775808",
	} {
		require.Equal(t, want, m.String())
	}
	require.InDelta(t, 0.0153, Money(15_300_000).Float64(), 1e-15)
	// The largest numbers that are let in.
	require.Equal(t, "2147483647", priceOf(math.MaxInt32, maxPrice*unit).String()[:10])
	require.Equal(t, Money(1), priceOf(1, 500_000))
	require.Equal(t, Money(0), priceOf(1, 499_999))
}
