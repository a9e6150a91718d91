package deepseek

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"
)

// shares is what everybody computes for itself.
func shares(limit int, wants ...int) []int {
	got := make([]int, len(wants))
	for i, want := range wants {
		var others []SharedOther
		for j, w := range wants {
			if i != j {
				others = append(others, SharedOther{Replica: fmt.Sprint("r", j), Want: w})
			}
		}
		got[i] = divide(limit, fmt.Sprint("r", i), want, others)
	}
	return got
}

func TestDivide(t *testing.T) {
	for _, row := range []struct {
		limit int
		wants []int
		want  []int
	}{
		{15, []int{100, 100, 100}, []int{5, 5, 5}},
		{16, []int{100, 100, 100}, []int{5, 5, 6}},
		{60, []int{100}, []int{60}},
		{60, []int{0, 0, 0}, []int{20, 20, 20}},
		{60, []int{100, 5, 100}, []int{27, 5, 28}},
		{60, []int{10, 5, 0}, []int{25, 20, 15}}, // what nobody needs is for all
		{2, []int{9, 9, 9}, []int{1, 1, 1}},      // the one that everybody has
		{1, []int{0}, []int{1}},
	} {
		require.Equal(t, row.want, shares(row.limit, row.wants...), "%d for %v", row.limit, row.wants)
	}
}

// Everybody computes for itself, and yet all is given out and nothing twice;
// whoever gets less than it wants gets no less than anybody else.
func TestDivisionIsWholeAndFair(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		wants := make([]int, 1+rng.IntN(8))
		for i := range wants {
			wants[i] = rng.IntN(40)
		}
		limit := 1 + rng.IntN(100)
		got, sum := shares(limit, wants...), 0
		for i, n := range got {
			sum += n
			require.GreaterOrEqual(t, n, 1)
			for j, m := range got {
				if n < wants[i] {
					require.LessOrEqual(t, m, n+1, "%d for %v: %v, %d against %d", limit, wants, got, i, j)
				}
			}
		}
		require.Equal(t, max(limit, len(wants)), sum, "%d for %v: %v", limit, wants, got)
	}
}
