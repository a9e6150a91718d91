package deepseek

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestUserAgent(t *testing.T) {
	base := scripted(jsonReply(wholeAnswer))
	client, err := New(WithTransport(base), WithBaseURL(DefaultBaseURL), WithAPIKeys(secretKey))
	require.NoError(t, err)
	_, err = client.Chat(t.Context(), &ChatRequest{Messages: []Message{User("Hi")}})
	require.NoError(t, err)
	require.Regexp(t, `^seawall-deepseek-go(/\S+)?$`, base.sent()[0].header.Get("User-Agent"))

	require.Equal(t, "seawall-deepseek-go", userAgentOf(nil))
	main := debug.Module{Path: "example.org/program", Version: "v9.9.9"}
	require.Equal(t, "seawall-deepseek-go", userAgentOf(&debug.BuildInfo{Main: main}))
	require.Equal(t, "seawall-deepseek-go/v0.3.1", userAgentOf(&debug.BuildInfo{Main: main, Deps: []*debug.Module{
		{Path: "golang.org/x/time", Version: "v0.1.0"}, {Path: modulePath, Version: "v0.3.1"},
	}}))
	require.Equal(t, "seawall-deepseek-go", userAgentOf(&debug.BuildInfo{Main: debug.Module{Path: modulePath, Version: "(devel)"}}))
}
