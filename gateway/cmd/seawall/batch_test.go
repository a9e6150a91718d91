package main

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// pieces keeps what is written, piece by piece.
type pieces []string

func (p *pieces) Write(text []byte) (int, error) {
	*p = append(*p, string(text))
	return len(text), nil
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
		require.Equal(t, pieces{"1\n"}, got, "at once")
		write("2\n")
		time.Sleep(batchFor - 1)
		write("3\n")
		require.Len(t, got, 1)
		time.Sleep(2 * time.Nanosecond)
		synctest.Wait()
		require.Equal(t, pieces{"1\n", "2\n3\n"}, got, "no longer than that")
		write("4\n")
		require.Len(t, got, 2)
		require.NoError(t, b.Flush())
		require.NoError(t, b.Flush())
		require.Equal(t, "4\n", got[2])
		require.Len(t, got, 3)
		write("5\n")
		large := strings.Repeat("x", batchMost)
		write(large)
		require.Equal(t, "5\n"+large, got[3], "no more than that")
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Len(t, got, 4)
		write("6\n")
		require.Len(t, got, 5, "at once again")
	})
}
