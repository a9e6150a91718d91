package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/seawall-go/deepseek/gateway"
)

// lookEvery is how often the files are looked at.
const lookEvery = 500 * time.Millisecond

// follow reloads the configuration on SIGHUP, and when it has changed and not
// changed any more since the last look. It ends with done.
func (s *server) follow(path string, hup <-chan os.Signal, done <-chan struct{}) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	read := s.started.Files() // as they were when they were read
	last := read              // at the last look
	for {
		select {
		case <-done:
			return
		case <-hup:
			read = s.readAgain(path, "SIGHUP", look(read))
			last = read
		case <-tick.C:
			now := look(read)
			if same(now, last) && !same(now, read) {
				read = s.readAgain(path, "a file has changed", now)
				now = read
			}
			last = now
		}
	}
}

// look looks at files again.
func look(files []gateway.File) []gateway.File {
	now := make([]gateway.File, len(files))
	for i, f := range files {
		now[i] = f.Now()
	}
	return now
}

func same(files, others []gateway.File) bool {
	return slices.EqualFunc(files, others, gateway.File.Same)
}

// readAgain reloads, and returns the files by whose change the configuration may be
// another: those that were read now, be it in vain, and those of the one that stays.
func (s *server) readAgain(path, why string, before []gateway.File) []gateway.File {
	read := s.reload(path, why)
	in := func(files []gateway.File, path string) bool {
		return slices.ContainsFunc(files, func(f gateway.File) bool { return f.Path == path })
	}
	for _, f := range before {
		if in(s.config.Load().Files(), f.Path) && !in(read, f.Path) {
			read = append(read, f)
		}
	}
	return read
}

// reload reads the file again, and returns all that it read. If anything is wrong with
// it, all stays as it is.
func (s *server) reload(path, why string) (read []gateway.File) {
	refuse := func(err error) {
		for _, err := range each(err) {
			s.log.Error("the new configuration is refused, the old one stays", slog.String("why", why), slog.String("error", err.Error()))
		}
	}
	c, err := gateway.ReadConfig(path)
	if err != nil {
		refuse(err)
		return gateway.FilesOf(err)
	}
	read = slices.Clone(c.Files())
	if len(c.Clients) == 0 && len(s.config.Load().Clients) > 0 {
		refuse(errOpen)
		return read
	}
	if was := s.config.Load().Currency(); c.Currency() != was {
		refuse(fmt.Errorf("prices.currency: was %s and cannot change while the gateway runs: budgets are in it, and what was spent of them; restart, with another state file", was))
		return read
	}
	cert, err := readCertificate(c)
	if err != nil {
		refuse(err)
		return read
	}
	settings, opts := s.settings(c)
	if err := s.gateway.Reload(settings, opts...); err != nil {
		refuse(c.Locate(err))
		return read
	}
	later := s.started.NeedsRestart(c)
	if !slices.Contains(later, "tls") {
		s.cert.Store(cert)
	}
	if !slices.Contains(later, "status.listen") { // where it listens has the keys that it had
		s.status.follow(c)
	}
	s.level.Set(c.Level())
	s.config.Store(c)
	s.log.Info("reloaded", slog.String("why", why), slog.Int("accounts", len(c.Accounts)), slog.Int("clients", len(c.Clients)))
	if len(later) > 0 {
		s.log.Warn("some of the new configuration needs a restart", slog.Any("fields", later))
	}
	return read
}

// errOpen is for a file that has been emptied, say: where the gateway listens is
// what it was when there were clients.
var errOpen = errors.New("there are no clients in it any more, and everybody could spend your money without a key; if that is meant, restart")

// each are the errors that err joins.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}
