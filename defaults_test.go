package deepseek

import (
	"errors"
	"io/fs"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The gateway's README shows every field of its file with its default. Those of
// this package's policies are known here only.
func TestGatewayReadmeTellsTheDefaults(t *testing.T) {
	text, err := os.ReadFile("gateway/README.md")
	if errors.Is(err, fs.ErrNotExist) {
		t.Skip("the gateway is a module of its own, and is not here")
	}
	require.NoError(t, err)
	_, file, _ := strings.Cut(string(text), "\n## The file\n")
	_, file, _ = strings.Cut(file, "\n```yaml\n")
	file, _, found := strings.Cut(file, "\n```\n")
	require.True(t, found)
	file = regexp.MustCompile(`(?m) +#.*$`).ReplaceAllString(file, "")

	good := func(policy any, err error) any {
		require.NoError(t, err)
		return policy
	}
	for section, policy := range map[string]any{
		"queue":    good(Queue{}.withDefaults()),
		"retry":    good(Retry{}.withDefaults()),
		"breaker":  good(Breaker{}.withDefaults()),
		"resume":   good(Resume{}.withDefaults()),
		"hedging":  good(Hedging{}.withDefaults()),
		"cache":    good(Cache{}.withDefaults()),
		"timeouts": Timeouts{}.withDefaults(),
	} {
		body := regexp.MustCompile(`(?m)^` + section + `:(.*(?:\n  .*)*)`).FindStringSubmatch(file)
		require.NotNil(t, body, section)
		lines := regexp.MustCompile(`(\w+): ([^\s,}]+)`).FindAllStringSubmatch(body[1], -1)
		require.NotEmpty(t, lines, section)
		for _, line := range lines {
			field := reflect.ValueOf(policy).FieldByNameFunc(func(name string) bool {
				return strings.EqualFold(name, strings.ReplaceAll(line[1], "_", ""))
			})
			require.True(t, field.IsValid(), "%s.%s", section, line[1])
			require.EqualValues(t, field.Interface(), parseAs(t, line[2], field), "%s.%s", section, line[1])
		}
	}
}

// parseAs reads a value of the gateway's file, in the type of a field.
func parseAs(t *testing.T, text string, field reflect.Value) any {
	t.Helper()
	var v any
	var err error
	switch field.Interface().(type) {
	case time.Duration:
		v, err = time.ParseDuration(text)
	case bool:
		v, err = strconv.ParseBool(text)
	case float64:
		v, err = strconv.ParseFloat(text, 64)
	default:
		number, isMiB := strings.CutSuffix(text, "MiB")
		var n int
		if n, err = strconv.Atoi(number); isMiB {
			n <<= 20
		}
		v = n
	}
	require.NoError(t, err, text)
	return v
}
