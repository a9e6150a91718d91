package gateway

import (
	"net/http"
	"strings"
)

// format is the shape of a path's requests, answers and errors.
type format uint8

const (
	openAI    format = iota // chat, FIM, and whatever has no answer of a model
	responses               // OpenAI's Responses
	anthropic               // Anthropic's Messages
)

// route is what the gateway serves of DeepSeek's API.
type route struct {
	format  format
	asks    bool   // for an answer of a model, with a JSON object
	uploads bool   // has a body of any kind
	methods string // that the path has, as in the Allow header
}

// endpoints are the paths below "", /v1 and /beta.
var endpoints = map[string]route{
	"/chat/completions": {asks: true, methods: "POST"},
	"/completions":      {asks: true, methods: "POST"},
	"/responses":        {format: responses, asks: true, methods: "POST"},
	"/models":           {methods: "GET"},
	"/user/balance":     {methods: "GET"},
	"/files":            {uploads: true, methods: "GET, POST"},
}

// findRoute returns what serves a request, or why nothing does. Only what is
// known to be DeepSeek's passes: a path is never cleaned, unescaped or joined.
func findRoute(r *http.Request) (route, *problem) {
	u := r.URL
	if u.Scheme != "" || u.Host != "" || r.Method == http.MethodConnect || u.Opaque != "" {
		return route{}, &problem{
			status: http.StatusMisdirectedRequest, code: "misdirected_request",
			message: "this is not a forward proxy: send the path alone, such as POST /chat/completions",
		}
	}
	rt, ok := pathRoute(u.Path)
	if !ok || u.RawPath != "" {
		return rt, &problem{
			status: http.StatusNotFound, code: "unknown_path",
			message: "there is no such path; the ones served are /chat/completions, /completions, /responses, /models, /user/balance " +
				"and /files, also below /v1 and /beta, and /anthropic/v1/messages",
		}
	}
	for rest := rt.methods; rest != ""; {
		var method string
		if method, rest, _ = strings.Cut(rest, ", "); method == r.Method {
			return rt, nil
		}
	}
	return rt, &problem{
		status: http.StatusMethodNotAllowed, code: "method_not_allowed", allow: rt.methods,
		message: "this path takes " + rt.methods,
	}
}

func pathRoute(path string) (rt route, ok bool) {
	if strings.HasPrefix(path, "/anthropic/") {
		return route{format: anthropic, asks: true, methods: "POST"}, path == "/anthropic/v1/messages"
	}
	for _, part := range [...]string{"/v1", "/beta"} {
		if rest, ok := strings.CutPrefix(path, part); ok {
			path = rest
			break
		}
	}
	if rt, ok := endpoints[path]; ok {
		return rt, true
	}
	if id, ok := strings.CutPrefix(path, "/models/"); ok {
		return route{methods: "GET"}, isName(id)
	}
	if id, ok := strings.CutPrefix(path, "/files/"); ok {
		if id, ok := strings.CutSuffix(id, "/content"); ok {
			return route{methods: "GET"}, isSegment(id)
		}
		return route{methods: "GET, DELETE"}, isSegment(id)
	}
	return route{}, false
}

// isName reports whether s can be the name of a model, which on other hosts
// than DeepSeek's has slashes in it.
func isName(s string) bool {
	for segment := range strings.SplitSeq(s, "/") {
		if !isSegment(segment) {
			return false
		}
	}
	return true
}

// isSegment reports whether s is a part of a path that nobody can take for
// anything else.
func isSegment(s string) bool {
	if s == "" || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return false
		}
	}
	return true
}
