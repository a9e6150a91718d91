package redis

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/redis/go-redis/v9"
)

// SetLogger has what go-redis itself logs, to standard error by default, logged
// at Debug: mostly each try to reach a server that is away, which the users of a
// connection tell once. It is one for the whole process.
func SetLogger(l *slog.Logger) { redis.SetLogger(logger{l}) }

type logger struct{ *slog.Logger }

func (l logger) Printf(ctx context.Context, format string, args ...any) {
	if l.Enabled(ctx, slog.LevelDebug) {
		l.DebugContext(ctx, fmt.Sprintf(format, args...))
	}
}
