package deepseek

import "net/http"

// header is h.Get(name) of a name that is in the canonical form as it is: without
// looking whether it is, which takes longer than the finding.
func header(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}
