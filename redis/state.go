package redis

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seawall-go/deepseek"
)

//go:embed exchange.lua
var exchangeSource string

var exchangeScript = redis.NewScript(exchangeSource)

// keepFor is for how long a learned limit is kept that nobody uses.
const keepFor = time.Hour

// maxFacts is how many facts are told at a time: as many as package deepseek
// expects.
const maxFacts = 256

// maxReply is more than a view comes to.
const maxReply = 16 << 20

// State returns what replicas agree by. Each exchange is one script, whole or not
// at all, on Redis's clock.
func (n *Connection) State() deepseek.SharedState { return state{n} }

type state struct{ *Connection }

// The report and the view as JSON. Durations are milliseconds.
type (
	reportJSON struct {
		Replica  string     `json:"replica"`
		Seq      uint64     `json:"seq"`
		Lease    int64      `json:"lease"`
		Leave    bool       `json:"leave,omitempty"`
		Replicas int        `json:"replicas"`
		Epoch    string     `json:"epoch"`
		After    int64      `json:"after"`
		Slots    []slotJSON `json:"slots,omitempty"`
		News     []factJSON `json:"news,omitempty"`
	}
	slotJSON struct {
		Held    int   `json:"held"`
		Ask     int   `json:"ask"`
		Want    int   `json:"want"`
		Peak    int   `json:"peak"`
		Version int64 `json:"version"`
		Limit   int   `json:"limit"`
		Refused int   `json:"refused"`
		Told    bool  `json:"told"`
		Learned bool  `json:"learned"`
	}
	factJSON struct {
		Name string `json:"name"`
		MS   int64  `json:"ms"`
	}
	viewJSON struct {
		Epoch    string         `json:"epoch"`
		Replicas int            `json:"replicas"`
		Slots    []slotViewJSON `json:"slots"`
		Facts    []factJSON     `json:"facts"`
		At       int64          `json:"at"`
	}
	slotViewJSON struct {
		Share   int         `json:"share"`
		Version int64       `json:"version"`
		Limit   int         `json:"limit"`
		Refused int         `json:"refused"`
		Told    bool        `json:"told"`
		Others  []otherJSON `json:"others"`
	}
)

// otherJSON is a list of name, want and peak.
type otherJSON deepseek.SharedOther

func (o *otherJSON) UnmarshalJSON(data []byte) error {
	return json.Unmarshal(data, &[]any{&o.Replica, &o.Want, &o.Peak})
}

func (s state) Exchange(ctx context.Context, r *deepseek.SharedReport) (*deepseek.SharedView, error) {
	report := reportJSON{
		Replica: r.Replica, Seq: r.Seq, Lease: r.Lease.Milliseconds(), Leave: r.Leave, Replicas: r.Replicas, Epoch: r.Epoch, After: r.After,
	}
	keys := []string{s.key("replicas"), s.key("meta"), s.key("facts"), s.key("order")}
	for _, slot := range r.Slots {
		keys = append(keys, s.key("slot", escape(slot.Account), escape(slot.Model)))
		report.Slots = append(report.Slots, slotJSON{
			Held: slot.Held, Ask: slot.Ask, Want: slot.Want, Peak: slot.Peak,
			Version: slot.Limit.Version, Limit: slot.Limit.Limit, Refused: slot.Limit.RefusedAt, Told: slot.Limit.Told, Learned: slot.Learned,
		})
	}
	for i := range r.News {
		report.News = append(report.News, factJSON{Name: factName(&r.News[i]), MS: ceilMS(r.News[i].For)})
	}
	data, err := json.Marshal(report)
	if err != nil {
		return nil, err
	}
	reply, err := exchangeScript.Run(ctx, s.client, keys, data, rand.Text(), keepFor.Milliseconds(), maxFacts).Text()
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return readView([]byte(reply))
}

func ceilMS(d time.Duration) int64 { return int64((d + time.Millisecond - 1) / time.Millisecond) }

var errView = errors.New("redis: what is kept there is not what was put there")

// readView reads what the script returns. What the numbers may be is checked by
// whoever asked.
func readView(data []byte) (*deepseek.SharedView, error) {
	var v viewJSON
	if len(data) > maxReply || json.Unmarshal(data, &v) != nil {
		return nil, errView
	}
	view := &deepseek.SharedView{Epoch: v.Epoch, Replicas: v.Replicas, At: v.At}
	for _, slot := range v.Slots {
		one := deepseek.SharedSlotView{
			Share: slot.Share, Limit: deepseek.SharedLimit{Version: slot.Version, Limit: slot.Limit, RefusedAt: slot.Refused, Told: slot.Told},
		}
		for _, o := range slot.Others {
			one.Others = append(one.Others, deepseek.SharedOther(o))
		}
		view.Slots = append(view.Slots, one)
	}
	for _, f := range v.Facts {
		// Of what somebody else has put there nothing is made, and the rest is read.
		if fact, ok := readFact(f); ok {
			view.Facts = append(view.Facts, fact)
		}
	}
	return view, nil
}

func factName(f *deepseek.SharedFact) string {
	return escape(f.Account) + "/" + escape(f.Key) + "/" + escape(f.Model) + "/" + escape(f.Cause)
}

func readFact(f factJSON) (fact deepseek.SharedFact, ok bool) {
	parts := strings.Split(f.Name, "/")
	into := []*string{&fact.Account, &fact.Key, &fact.Model, &fact.Cause}
	if len(parts) != len(into) || f.MS < 0 || f.MS > math.MaxInt64/int64(time.Millisecond) {
		return fact, false
	}
	for i, part := range parts {
		text, err := url.PathUnescape(part)
		if err != nil {
			return fact, false
		}
		*into[i] = text
	}
	fact.For = time.Duration(f.MS) * time.Millisecond
	return fact, true
}
