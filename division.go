package deepseek

import (
	"cmp"
	"slices"
)

// divide says how many of limit permits the replica of that name should have: as
// many as it wants, where all want no more than there are, and its part of what
// is left over; else as much as any other that does not get all it wants. Nobody
// gets less than one. Of the same wants everybody computes the same.
func divide(limit int, name string, want int, others []SharedOther) int {
	type part struct {
		name  string
		need  int // beyond one
		given int
	}
	parts := make([]part, 0, len(others)+1)
	parts = append(parts, part{name: name, need: max(want-1, 0), given: 1})
	for _, o := range others {
		parts = append(parts, part{name: o.Replica, need: max(o.Want-1, 0), given: 1})
	}
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(a.need, b.need), cmp.Compare(a.name, b.name)) })
	left := max(limit-len(parts), 0)
	for i := range parts { // the modest first
		p := &parts[i]
		more := min(p.need, left/(len(parts)-i))
		p.given += more
		p.need -= more
		left -= more
	}
	// What cannot be divided equally, and what nobody needs now.
	slices.SortFunc(parts, func(a, b part) int { return cmp.Or(cmp.Compare(b.need, a.need), cmp.Compare(a.name, b.name)) })
	for i := range parts {
		p := &parts[i]
		more := (left + len(parts) - i - 1) / (len(parts) - i)
		left -= more
		if p.name == name {
			return p.given + more
		}
	}
	return 1
}
