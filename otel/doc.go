// Package otel makes OpenTelemetry traces and metrics of the calls of package
// deepseek, following the semantic conventions for generative AI.
//
//	tel, err := otel.New(otel.Options{})
//	if err != nil {
//		return err
//	}
//	client, err := deepseek.New(tel.Option())
//	if err != nil {
//		return err
//	}
//	stop, err := tel.Watch(client.Transport().Stats)
//	if err != nil {
//		return err
//	}
//	defer stop()
//
// A call is one span, and each of its attempts a child of it; what happens
// between them (waits, cooldowns, a breaker that opens, answers that are continued)
// are events of the call's span. Metrics are what the conventions have, and what
// they do not know of, under seawall: accounts, limits, waits, money. The module's
// README has the tables.
//
// No prompt, no answer and no key is ever in any of it. How many series there can
// be is bounded: see [Options.MaxModels].
//
// The conventions are those of release 1.41.0, the last one whose names there are
// in Go; they still call themselves experimental, and may change names.
package otel
