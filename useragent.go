package deepseek

import (
	"runtime/debug"
	"sync"
)

const modulePath = "github.com/seawall-go/deepseek"

// userAgent is what the typed client calls itself, with the version that the program
// was built with, if that is known. (Under an SDK it is the SDK that tells.)
var userAgent = sync.OnceValue(func() []string {
	info, _ := debug.ReadBuildInfo()
	return []string{userAgentOf(info)}
})

func userAgentOf(info *debug.BuildInfo) string {
	const name = "seawall-deepseek-go"
	if info == nil {
		return name
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath && m.Version != "" && m.Version != "(devel)" {
			return name + "/" + m.Version
		}
	}
	return name
}
