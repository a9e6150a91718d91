package gateway

import "time"

// Server bounds what clients may take of the process. The zero value is the
// default.
type Server struct {
	MaxRequest     Size          // largest request; default 48MiB
	MaxHeader      Size          // largest header of a request; default 64KiB
	MaxConnections int           // open at a time, others wait to be accepted; default 10000
	HeaderTimeout  time.Duration // for a request's header to come; default 10s
	BodyTimeout    time.Duration // for a request's body to come, or each MiB of it; default 30s
	WriteTimeout   time.Duration // for a client to take what it is sent, piece by piece; default 60s
	IdleTimeout    time.Duration // of a connection between two requests; default 2m
}

func (s Server) check(fail func(path, reason string)) {
	for name, d := range map[string]time.Duration{
		"header_timeout": s.HeaderTimeout, "body_timeout": s.BodyTimeout, "write_timeout": s.WriteTimeout, "idle_timeout": s.IdleTimeout,
	} {
		if d <= 0 {
			fail("server."+name, "must be more than 0")
		}
	}
	for name, size := range map[string]Size{"max_request": s.MaxRequest, "max_header": s.MaxHeader} {
		if size < 1 {
			fail("server."+name, "must be at least 1 byte")
		}
	}
	if s.MaxConnections < 1 {
		fail("server.max_connections", "must be at least 1")
	}
}

// Shutdown is how the process ends on SIGTERM.
type Shutdown struct {
	// Delay is for how long it goes on as before, but for /readyz, so that whoever
	// sends it requests can notice. Default 0.
	Delay time.Duration
	// Limit is how long calls have to end after that. Those that have not are told
	// so. Default 1m.
	Limit time.Duration
}

func (s Shutdown) check(fail func(path, reason string)) {
	if s.Delay < 0 {
		fail("shutdown.delay", "must not be negative")
	}
	if s.Limit <= 0 {
		fail("shutdown.limit", "must be more than 0")
	}
}
