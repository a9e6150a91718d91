package gateway

import (
	"context"
	"log/slog"

	"github.com/seawall-go/deepseek"
)

// named is a handler that puts the id of the exchange into what is logged in the
// course of one.
type named struct{ slog.Handler }

func (h named) Handle(ctx context.Context, r slog.Record) error {
	if x := exchangeOf(ctx); x != nil {
		r.AddAttrs(slog.String("id", x.id))
	}
	return h.Handler.Handle(ctx, r)
}

func (h named) WithAttrs(attrs []slog.Attr) slog.Handler { return named{h.Handler.WithAttrs(attrs)} }
func (h named) WithGroup(name string) slog.Handler       { return named{h.Handler.WithGroup(name)} }

// logged is what the transport has to log. Calls are logged by their exchanges.
func logged(l *slog.Logger) deepseek.Option {
	if l == nil {
		return nil
	}
	o := deepseek.LogObserver(l)
	o.CallEnd = nil
	return deepseek.WithObserver(o)
}
