package main

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pieces keeps what is written, piece by piece.
type pieces struct {
	mu   sync.Mutex
	list []string
}

func (p *pieces) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.list = append(p.list, string(text))
	return len(text), nil
}

// all returns what was written so far.
func (p *pieces) all() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.list)
}

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got pieces
		b := &batch{to: &got}
		write := func(text string) {
			n, err := b.Write([]byte(text))
			require.NoError(t, err)
			require.Equal(t, len(text), n)
		}
		write("1\n")
		require.Equal(t, []string{"1\n"}, got.all(), "at once")
		write("2\n")
		time.Sleep(batchFor - 1)
		write("3\n")
		require.Len(t, got.all(), 1)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		require.Equal(t, []string{"1\n", "2\n3\n"}, got.all(), "no longer than that")
		write("4\n")
		require.Len(t, got.all(), 2)
		require.NoError(t, b.Flush())
		require.NoError(t, b.Flush())
		require.Equal(t, "4\n", got.all()[2])
		require.Len(t, got.all(), 3)
		write("5\n")
		large := strings.Repeat("x", batchMost)
		write(large)
		require.Equal(t, "5\n"+large, got.all()[3], "no more than that")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, got.all(), 4)
		write("6\n")
		require.Len(t, got.all(), 5, "at once again")
	})
}
