package deepseektest

import (
	"net/http"
	"time"
)

// plan is a Reply worked out for one request: what differs from a normal
// answer. The zero value is a normal answer.
type plan struct {
	delay  time.Duration // before anything else
	header http.Header

	// Instead of an answer. Any of these makes the plan early: it is played
	// before validation and limits.
	failure *apiError
	status  int // of failure by status, or of body
	raw     *rawBody
	hang    bool
	close   bool // before the headers
	reset   bool // before the headers

	// About the answer.
	pace    *Pace
	framing *Framing
	queued  bool
	queue   int
	every   time.Duration
	answer  *Answer
	finish  string
	cutoff  int  // tokens before finish, if limited
	limited bool // to so many tokens
	mute    bool // no content, as when reasoning took the budget
	blank   bool // content of spaces
	usage   usageMode
	fault   fault
	ending  ending
}

type rawBody struct {
	contentType string
	body        string
}

type usageMode uint8

const (
	usageFinal    usageMode = iota // on the chunk with the finish_reason
	usageNone                      // nowhere
	usageSeparate                  // on a chunk of its own with no choices
)

type ending uint8

const (
	endDone     ending = iota // finish_reason and [DONE]
	endNoDone                 // finish_reason, then EOF
	endNoFinish               // [DONE] without a finish_reason
	endOpen                   // [DONE], then the connection stays open
)

// fault is a break somewhere in the answer.
type fault struct {
	kind  faultKind
	at    faultPlace
	after int // tokens
	every time.Duration
	text  string
}

type faultKind uint8

const (
	faultNone  faultKind = iota
	faultEOF             // the response ends cleanly
	faultDrop            // the connection is closed
	faultReset           // the connection is reset
	faultStall           // silence, the connection stays open
	faultPulse           // only keep-alives, the connection stays open
	faultPause           // silence, then the answer goes on
	faultError           // an error event, then a clean end
	faultJunk            // some other text, then a clean end
)

type faultPlace uint8

const (
	atBoundary  faultPlace = iota // between two events
	atEvent                       // in the middle of an event
	atRune                        // in the middle of a character
	atArguments                   // half way through the arguments of a tool call
)

// early says that the plan is no answer at all.
func (p *plan) early() bool {
	return p.failure != nil || p.status != 0 || p.raw != nil || p.hang || p.close || p.reset
}

// refuses says that the plan is an error of the client's: the request is never
// in flight.
func (p *plan) refuses() bool {
	status := p.status
	if p.failure != nil {
		status = p.failure.status
	}
	return status >= 400 && status < 500 && !p.hang && !p.close && !p.reset
}
