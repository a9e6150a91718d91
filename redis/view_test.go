package redis

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzView: whatever Redis returns, it is read, or it is an error.
func FuzzView(f *testing.F) {
	f.Add([]byte(`{"epoch":"e","replicas":2,"at":3,"slots":[{"share":5,"version":1,"limit":15,"refused":16,"told":true,"others":[["r2",3,4]]}],"facts":[{"name":"main/ab12//401","ms":600000}]}`))
	f.Add([]byte(`{"slots":[{"others":[[]]},{"others":[{}]}]}`))
	f.Add([]byte(`{"facts":[{"name":"%","ms":-1},{"name":"a/b/c/d","ms":9223372036854775807}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := readView(data)
		if err != nil {
			require.Nil(t, v)
			return
		}
		for _, fact := range v.Facts {
			require.GreaterOrEqual(t, int64(fact.For), int64(0))
			back, ok := readFact(factJSON{Name: factName(&fact), MS: fact.For.Milliseconds()})
			require.True(t, ok)
			require.Equal(t, fact, back)
		}
	})
}
