package deepseek

import (
	"context"
	"time"
)

// SharedState is where the replicas of a program, each with a transport of its
// own over the same accounts, agree on what they may do: [Replica] says how. It
// knows nothing of calls: it keeps what replicas report for as long as they say,
// and hands out permits so that nobody has one that another holds. [MemoryState]
// is one for a single process; module github.com/seawall-go/deepseek/redis has
// one for many.
//
// What it returns is checked before use: whatever it is, no call fails for it.
type SharedState interface {
	// Exchange takes in what a replica reports and returns what there is to know,
	// in one step: no other replica's report comes between. It must return when
	// ctx ends. It is never called twice at once for one replica. If there is an
	// error, the report may have been taken in or not.
	Exchange(ctx context.Context, report *SharedReport) (*SharedView, error)
}

// SharedReport is what a replica says of itself.
type SharedReport struct {
	Replica string        // its name: letters and digits
	Seq     uint64        // of the report; an older one that comes late must be refused
	Lease   time.Duration // how long the replica counts as there, and Held as held
	Leave   bool          // it goes: it holds nothing any more

	// Replicas is how many it last heard of; for half a lease after the state was
	// lost, the number before that, if larger.
	Replicas int

	Slots []SharedSlot // the accounts and models that it uses
	News  []SharedFact // what it has found out and not reported yet

	// Of the facts, it knows those up to number After of the state Epoch.
	Epoch string
	After int64
}

// SharedSlot is what a replica says of an account's model.
type SharedSlot struct {
	Account string // see [Account.Name]; one without a name goes by its first key's fingerprint
	Model   string // by the endpoint's own name for it

	Held int // permits that it has, or whose calls are in flight; 0: it does without
	Ask  int // how many it asks for
	Want int // how many it could use: calls in flight and waiting
	Peak int // most calls in flight since its last report

	// Limit is what it believes the limit of all together to be, and Learned
	// whether that is news to the others.
	Limit   SharedLimit
	Learned bool
}

// SharedLimit is a limit of calls in flight, of all replicas together.
type SharedLimit struct {
	// Version counts changes; in a report it is the one that the replica goes by. A
	// limit learned from the current version becomes the next; one learned from an
	// older version counts only if it is lower.
	Version   int64
	Limit     int  // calls in flight
	RefusedAt int  // how many in flight were too many; 0: not known
	Told      bool // by the server, in as many words
}

// SharedFact is that an account or key is put aside, or no longer is.
type SharedFact struct {
	Account string // as in [SharedSlot]
	Key     string // fingerprint; empty: the whole account
	Model   string // empty: all models
	Cause   string // 401, 402, 403 or 429
	// For is how much longer; 0: it is over before its time. Of two facts the one
	// ending later counts; "over" always does.
	For time.Duration
}

// SharedView is what a replica is told.
type SharedView struct {
	Epoch    string           // names the state; a new one begins when it was lost
	Replicas int              // that are there, at least 1
	Slots    []SharedSlotView // in the order of the report's
	Facts    []SharedFact     // that are new to it, and have not ended by themselves; the first of them first
	At       int64            // the number of the last of them
}

// SharedSlotView is how an account's model stands. They come in the order of the
// report's.
type SharedSlotView struct {
	// Share is how many permits the replica has from now on: what it asked for if
	// that is no more than it held, else as many as are left by others, whose
	// leases have not ended. In the first half lease after all had been lost nobody
	// gets more than its equal share of the limit, until all have told what they hold.
	Share  int
	Limit  SharedLimit   // as all together know it
	Others []SharedOther // those that use it too
}

// SharedOther is another replica.
type SharedOther struct {
	Replica    string // its name
	Want, Peak int    // as it reported
}

// The causes of facts, by the status that told them.
const (
	cause401 = "401"
	cause402 = "402"
	cause403 = "403"
	cause429 = "429"
)

// lasts is the longest time for which a cause may put anything aside; 0: there is no
// such cause.
func lasts(cause string) time.Duration {
	switch cause {
	case cause401:
		return keyOffFor
	case cause402:
		return accountOffFor
	case cause403:
		return keyCoolFor
	case cause429:
		return maxCooldown
	}
	return 0
}

// factName tells one fact from another.
type factName struct{ account, key, model, cause string }

func (f *SharedFact) name() factName { return factName{f.Account, f.Key, f.Model, f.Cause} }
