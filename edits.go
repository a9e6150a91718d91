package deepseek

import (
	"cmp"
	"slices"
)

// edits are changes to a text that do not overlap. What they do not touch stays
// as it is, byte for byte.
type edits []edit

type edit struct {
	from, to int // what is replaced; equal where something is put in
	with     []byte
}

func (e *edits) replace(from, to int, with []byte) { *e = append(*e, edit{from, to, with}) }

// apply appends the changed text to dst.
func (e edits) apply(dst, text []byte) []byte {
	slices.SortStableFunc(e, func(a, b edit) int { return cmp.Compare(a.from, b.from) })
	at := 0
	for i := range e {
		dst = append(dst, text[at:e[i].from]...)
		dst = append(dst, e[i].with...)
		at = e[i].to
	}
	return append(dst, text[at:]...)
}
