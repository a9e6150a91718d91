package deepseek_test

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// The two READMEs have the same code and the same number of headings.
func TestReadmesAreInStep(t *testing.T) {
	read := func(name, pattern string) []string {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		return regexp.MustCompile(pattern).FindAllString(string(data), -1)
	}
	const code, heading = "(?s)```go.*?```", "(?m)^#+ "
	require.NotEmpty(t, read("README.md", code))
	require.Equal(t, read("README.md", code), read("README.zh-CN.md", code))
	require.Equal(t, read("README.md", heading), read("README.zh-CN.md", heading))
}
