package deepseek

import (
	"context"
	"hash/crc32"

	"github.com/seawall-go/deepseek/internal/jsonscan"
)

// conversationKey finds a conversation's name among a context's values.
type conversationKey struct{}

// ContextWithConversation returns a context whose calls belong to the
// conversation of that name, of whatever form. The pool keeps them on one
// account, for its context cache (see [Affinity]). Without it a conversation is
// told by the beginning of its requests, which does as well unless an
// application changes it from call to call, or has many that begin alike.
func ContextWithConversation(ctx context.Context, name string) context.Context {
	return context.WithValue(ctx, conversationKey{}, name)
}

// conversation is what a call belongs to; 0: to none. The lowest bit says that the
// request has more than its beginning, which an account may have in its cache.
type conversation uint64

// conversationBy is the conversation of that hash.
func conversationBy(hash uint64, goesOn bool) conversation {
	if goesOn {
		return conversation(hash | 1)
	}
	return conversation(hash &^ 1)
}

// key is what the conversation is known by, the same in every process; 0: none.
func (c conversation) key() uint64 {
	if c == 0 {
		return 0
	}
	return uint64(c) | 1
}

func (c conversation) goesOn() bool { return c&1 == 1 }

// beginning collects what names a conversation, out of a request's members.
type beginning struct {
	sum    uint32
	any    bool // there is a message
	goesOn bool // and something after the user's first
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (b *beginning) add(value []byte) { b.sum = crc32.Update(b.sum, castagnoli, value) }

// member takes in a member of the request, in the shape of any of the APIs:
// messages and user_id of chat, input and instructions of /responses, system and
// metadata of the Anthropic format.
func (b *beginning) member(c *jsonscan.Cursor) {
	switch string(c.Name) {
	case "system", "instructions":
		b.content(c.Value())
	case "user_id": // the cache is apart for each
		b.add(c.Value())
	case "metadata":
		if id, ok := jsonscan.Get(c.Value(), "user_id"); ok {
			b.add(id)
		}
	case "messages", "input":
		b.messages(c)
	default:
		c.Skip()
	}
}

// messages takes in the messages up to the user's first.
func (b *beginning) messages(c *jsonscan.Cursor) {
	if !c.Array() {
		if value := c.Value(); jsonscan.IsString(value) {
			b.add(value)
			b.any = true
		}
		return
	}
	for found := false; c.Element(); {
		switch {
		case found:
			b.goesOn = true
			c.Skip()
		case !c.Object():
			c.Skip()
		default:
			found = b.message(c)
		}
	}
}

// message takes in a message and reports whether it is the user's.
func (b *beginning) message(c *jsonscan.Cursor) (users bool) {
	for c.Key() {
		switch string(c.Name) {
		case "role":
			users = jsonscan.Equal(c.Value(), "user")
		case "content":
			b.content(c.Value())
			b.any = true
		default:
			c.Skip()
		}
	}
	return users
}

// content takes in a text, or the texts of parts. What else is in a part is
// left out: Anthropic's clients mark the last message for the cache, and it is
// another one each time.
func (b *beginning) content(value []byte) {
	if jsonscan.IsString(value) {
		b.add(value)
		return
	}
	for e := jsonscan.Elements(value); e.Next(); {
		if text, ok := jsonscan.Get(e.Value, "text"); ok {
			b.add(text)
			continue
		}
		b.add(e.Value)
	}
}

func (b *beginning) conversation() conversation {
	if !b.any {
		return 0
	}
	return conversationBy(mix(uint64(b.sum)), b.goesOn)
}

// named is c by the name that the context gives it, if it does.
func (c conversation) named(ctx context.Context) conversation {
	name, ok := ctx.Value(conversationKey{}).(string)
	if !ok {
		return c
	}
	return conversationBy(mix(uint64(crc32.Checksum([]byte(name), castagnoli))), c.goesOn())
}
