package main

import (
	"errors"
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
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	last := s.loaded
	for {
		select {
		case <-done:
			return
		case <-hup:
			before := s.marks()
			s.reload(path, "SIGHUP")
			s.loaded = s.marksSince(before)
			last = s.loaded
		case <-look.C:
			now := s.marks()
			if slices.EqualFunc(now, last, mark.same) && !slices.EqualFunc(now, s.loaded, mark.same) {
				s.reload(path, "a file has changed")
				now = s.marksSince(now)
				s.loaded = now
			}
			last = now
		}
	}
}

// mark tells one state of a file from another.
type mark struct {
	path string
	info os.FileInfo // nil: there is none
}

// same tells files apart that replaced one another, too: their times may be those of
// a build, and all hashes are of one size.
func (m mark) same(o mark) bool {
	if m.path != o.path || m.info == nil || o.info == nil {
		return m.path == o.path && m.info == nil && o.info == nil
	}
	return m.info.ModTime().Equal(o.info.ModTime()) && m.info.Size() == o.info.Size() && os.SameFile(m.info, o.info)
}

// marksSince are the marks of the files as they are used now, those that were looked
// at before as they were then: what changed since may not have been read.
func (s *server) marksSince(before []mark) []mark {
	marks := s.marks()
	for i, m := range marks {
		if j := slices.IndexFunc(before, func(b mark) bool { return b.path == m.path }); j >= 0 {
			marks[i] = before[j]
		}
	}
	return marks
}

func (s *server) marks() []mark {
	files := append(s.config.Load().Files(), s.missed...)
	marks := make([]mark, len(files))
	for i, path := range files {
		marks[i].path = path
		if info, err := os.Stat(path); err == nil { // of what a link leads to
			marks[i].info = info
		}
	}
	return marks
}

// reload reads the file again. If anything is wrong with it, all stays as it is.
func (s *server) reload(path, why string) {
	refuse := func(err error) {
		for _, err := range each(err) {
			s.log.Error("the new configuration is refused, the old one stays", slog.String("why", why), slog.String("error", err.Error()))
		}
	}
	c, err := gateway.ReadConfig(path)
	if err != nil {
		s.missed = gateway.FilesOf(err)
		refuse(err)
		return
	}
	s.missed = c.Files() // in case that it is refused for another reason
	if len(c.Clients) == 0 && len(s.config.Load().Clients) > 0 {
		refuse(errOpen)
		return
	}
	cert, err := readCertificate(c)
	if err != nil {
		refuse(err)
		return
	}
	settings, opts := s.settings(c)
	if err := s.gateway.Reload(settings, opts...); err != nil {
		refuse(err)
		return
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
	s.missed = nil
	s.log.Info("reloaded", slog.String("why", why), slog.Int("accounts", len(c.Accounts)), slog.Int("clients", len(c.Clients)))
	if len(later) > 0 {
		s.log.Warn("some of the new configuration needs a restart", slog.Any("fields", later))
	}
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
