package deepseek

import (
	"net/http"
	"strings"
)

// header is h.Get(name) of a name that is in the canonical form as it is: without
// looking whether it is, which takes longer than the finding.
func header(h http.Header, name string) string {
	if values := h[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

const jsonMedia = "application/json"

// mediaType is the content type in lower case.
func mediaType(h http.Header) string {
	if header(h, "Content-Type") == jsonMedia { // nearly always, if it is no stream
		return jsonMedia
	}
	return strings.ToLower(strings.TrimSpace(header(h, "Content-Type")))
}

func isEventStream(h http.Header) bool { return isEventStreamType(mediaType(h)) }

func isEventStreamType(media string) bool { return strings.HasPrefix(media, "text/event-stream") }
