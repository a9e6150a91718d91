package gateway

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The README's configurations are good ones, and the last of them has every field
// that there is, with its default where it says so. The defaults of package
// deepseek's policies are compared in its own tests, where they are known.
func TestReadme(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	t.Setenv("DEEPSEEK_API_KEY", testKey)
	t.Setenv("DEEPSEEK_BASE_URL", "")
	for i, name := range []string{"SILICONFLOW_API_KEY", "ARK_API_KEY", "AZURE_API_KEY", "OPENROUTER_API_KEY", "FIREWORKS_API_KEY", "MISTRAL_API_KEY", "VLLM_API_KEY", "EAST_KEY", "WEST_KEY"} {
		t.Setenv(name, fmt.Sprint(testKey, i))
	}
	dir := t.TempDir()
	secret := filepath.Join(dir, "second-key")
	require.NoError(t, os.WriteFile(secret, []byte(testKey+"-2"), 0o600))
	var configs []*Config
	for block := range strings.SplitSeq(string(text), "```yaml\n") {
		block, _, ok := strings.Cut(block, "\n```")
		if !ok || strings.HasPrefix(block, "# The gateway") {
			continue
		}
		block = strings.Replace(block, "/run/secrets/second-key", secret, 1)
		c, err := parseConfig(filepath.Join(dir, "seawall.yaml"), []byte(block))
		require.NoError(t, err)
		configs = append(configs, c)
	}
	require.Len(t, configs, 7)

	full, empty := configs[5], DefaultConfig()
	for path, line := range full.doc.lines {
		require.Positive(t, line, path)
	}
	fields := map[string]reflect.Value{}
	collect(fields, reflect.ValueOf(new(Endpoint)).Elem())
	for name := range fields {
		require.True(t, slices.ContainsFunc(slices.Collect(maps.Keys(configs[2].doc.lines)), func(at string) bool {
			return strings.HasPrefix(at, "endpoints[") && strings.HasSuffix(at, "]."+name)
		}), "the README does not tell of an endpoint's %s", name)
	}
	documented(t, configs[1].doc, "clients[0]", reflect.ValueOf(new(Client)).Elem())
	documented(t, full.doc, "", reflect.ValueOf(full).Elem())
	require.Equal(t, empty.Listen, full.Listen)
	require.Equal(t, empty.Strategy, full.Strategy)
	require.Equal(t, "127.0.0.1:8081", configs[4].Status.Listen)
	require.Equal(t, empty.Status.Listen, full.Status.Listen)
	require.Equal(t, empty.Server, full.Server)
	require.Equal(t, empty.Shutdown, full.Shutdown)
	require.Equal(t, empty.Log, full.Log)
	require.Empty(t, full.Telemetry.Traces.Headers)
	full.Telemetry.Traces.Headers = nil
	require.Equal(t, empty.Telemetry, full.Telemetry)
	require.Equal(t, KeepAlive{}.withDefaults(), full.KeepAlive)
	require.Equal(t, empty.State, full.State)
}

// documented demands that the document has every field of v, and of what is in it.
func documented(t *testing.T, d *document, path string, v reflect.Value) {
	t.Helper()
	fields := map[string]reflect.Value{}
	collect(fields, v)
	for name, f := range fields {
		at := join(path, name)
		if at == "endpoints" { // stand in place of others, and have a file of their own
			continue
		}
		require.Contains(t, d.lines, at, "the README does not tell of %s", at)
		_, reads := f.Addr().Interface().(reader)
		switch {
		case reads, at == "clients", at == "prices.models":
		case f.Kind() == reflect.Struct:
			documented(t, d, at, f)
		case f.Kind() == reflect.Slice && f.Type().Elem().Kind() == reflect.Struct:
			documented(t, d, at+"[0]", reflect.New(f.Type().Elem()).Elem())
		}
	}
}
