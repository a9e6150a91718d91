package deepseek

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEcho(t *testing.T) {
	const long = "The wall holds because each stone leans on the next, and none of them hurries."
	for _, c := range []struct {
		name, text, more string
		inContent        bool
		want             hearing
	}{
		{"goes on", long, " So it is.", true, goesOn},
		{"begins anew", long, long, true, anew},
		{"begins anew, and then says something else", long, long[:echoMost] + "!", true, anew},
		{"begins alike", long, "The wall is old.", true, goesOn},
		{"is still alike", long, "The wall holds", true, undecided},
		{"a short text anew", "Hello! How", "Hello! How can I help?", true, anew},
		{"too short to tell", "Hello", "Hello", true, goesOn},
		{"a text that repeats itself", "row, row, row, row, ", "row, row, row, row, row", true, goesOn},
		{"a refrain", strings.Repeat("and we sang of the sea and the wall, ", 3), "and we sang of the sea and the wall, and", true, goesOn},
		{"thinks anew", long, long, false, anew},
	} {
		for _, size := range []int{1, 3, 100} {
			e := echo{}
			e.listenFor([]byte(c.text), c.inContent)
			got := goesOn
			for rest := c.more; rest != ""; {
				n := min(size, len(rest))
				content, reasoning := []byte(rest[:n]), []byte(nil)
				if !c.inContent {
					content, reasoning = reasoning, content
				}
				rest = rest[n:]
				if got = e.hear(content, reasoning); got != undecided {
					break
				}
			}
			require.Equal(t, c.want, got, "%s, %d at a time", c.name, size)
		}
	}
	e := echo{}
	e.listenFor([]byte(long), true)
	require.Equal(t, anew, e.hear(nil, []byte("Hm")), "thinks although it had begun to write")
	e = echo{}
	e.listenFor([]byte(long), false)
	require.Equal(t, goesOn, e.hear([]byte("The wall"), nil), "has thought enough")
	require.False(t, e.listens)
}
