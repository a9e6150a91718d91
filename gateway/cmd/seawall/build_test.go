package main

import (
	"crypto/sha256"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seawall-go/deepseek/internal/racedetector"
)

// The binary follows from the source alone: built in two places, it is the same
// to the byte, and it needs no library of the system.
func TestBuildIsReproducible(t *testing.T) {
	if testing.Short() || racedetector.On {
		t.Skip("it builds twice")
	}
	t.Parallel()
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	elsewhere := filepath.Join(t.TempDir(), "elsewhere")
	for _, module := range []string{".", "gateway", "otel", "redis"} {
		copyModule(t, filepath.Join(root, module), filepath.Join(elsewhere, module))
	}
	var sums [2][sha256.Size]byte
	for i, dir := range []string{root, elsewhere} {
		bin := filepath.Join(t.TempDir(), "seawall")
		build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-o", bin, "./cmd/seawall")
		build.Dir = filepath.Join(dir, "gateway")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off", "GOFLAGS=-mod=readonly")
		output, err := build.CombinedOutput()
		require.NoError(t, err, string(output))
		data, err := os.ReadFile(bin)
		require.NoError(t, err)
		require.NotContains(t, string(data), root)
		sums[i] = sha256.Sum256(data)
	}
	require.Equal(t, sums[0], sums[1])
}

// copyModule copies a module without those below it.
func copyModule(t testing.TB, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(from, path)
		switch {
		case err != nil:
			return err
		case !d.IsDir():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(filepath.Join(to, rel), data, 0o600)
		case d.Name() == ".git":
			return fs.SkipDir
		case path != from:
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil {
				return fs.SkipDir
			}
		}
		return os.MkdirAll(filepath.Join(to, rel), 0o700)
	})
	require.NoError(t, err)
}
