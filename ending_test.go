package deepseek

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

// told is a finisher that notes that it was told.
type told func()

func (f told) finish(*call, verdict) { f() }

// Who comes while the end is being told is told after those who came before: what an
// answer cost is known to whoever tells of its end.
func TestEndIsToldInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var e ending
		var order []string
		wait := make(chan struct{})
		e.onEnd(nil, told(func() {
			<-wait
			order = append(order, "meter")
		}))
		go e.end(verdict{outcome: cancelled})
		synctest.Wait()
		e.onEnd(nil, told(func() { order = append(order, "observer") }))
		e.end(verdict{outcome: answered})
		close(wait)
		synctest.Wait()
		require.Equal(t, []string{"meter", "observer"}, order)
		e.onEnd(nil, told(func() { order = append(order, "late") }))
		require.Equal(t, []string{"meter", "observer", "late"}, order)
		require.Equal(t, cancelled, e.soFar().outcome)
	})
}
