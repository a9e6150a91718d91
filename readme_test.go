package deepseek_test

import (
	"os"
	"regexp"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek"
	"github.com/seawall-go/deepseek/deepseektest"
)

// The two READMEs have the same code and the same number of headings.
func TestReadmesAreInStep(t *testing.T) {
	read := func(name, pattern string) []string {
		data, err := os.ReadFile(name)
		require.NoError(t, err)
		return regexp.MustCompile(pattern).FindAllString(string(data), -1)
	}
	const code, heading, shown = "(?s)```go.*?```", "(?m)^#+ ", "(?ms)^func TestLongQueue.*?^}"
	require.NotEmpty(t, read("README.md", code))
	require.Equal(t, read("README.md", code), read("README.zh-CN.md", code))
	require.Equal(t, read("README.md", heading), read("README.zh-CN.md", heading))
	// The test that they show is the one below.
	require.Equal(t, read("README.md", shown), read("readme_test.go", shown))
}

func TestLongQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // takes no time
		s := deepseektest.NewMemoryServer()
		defer s.Close()
		s.Enqueue(
			deepseektest.ServiceUnavailable(),
			deepseektest.Queued(30, 10*time.Second).And(deepseektest.Say("It holds.")), // after five minutes
		)
		client, err := deepseek.New(deepseek.WithBaseURL(s.URL), deepseek.WithTransport(s.Transport()),
			deepseek.WithAPIKeys("sk-test"))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := client.Chat(t.Context(), &deepseek.ChatRequest{
			Messages: []deepseek.Message{deepseek.User("How is the wall?")},
		})
		if err != nil || answer.Text() != "It holds." || len(answer.Attempts) != 2 {
			t.Fatal(answer, err)
		}
	})
}
