package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestContenders: every contender does its work, so that no table compares
// work with the lack of it.
func TestContenders(t *testing.T) {
	for _, prepare := range tables {
		table, err := prepare()
		require.NoError(t, err)
		for _, row := range table.rows {
			t.Run(table.title+"/"+row.name, func(t *testing.T) {
				for range 3 {
					require.NoError(t, row.op())
				}
			})
		}
		table.close()
	}
}
