package deepseek

import (
	"net/http"
	"strings"
)

// header is h.Get(name) for a name in canonical form. Finding out whether a name is
// takes longer than the look-up.
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
