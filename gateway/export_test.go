package gateway

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
)

// CheckRequest demands what must hold whatever a client sends: what passes is a
// path of the API as it stands, and one JSON object that every reader reads alike.
func CheckRequest(t *testing.T, method, target string, body []byte) {
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return
	}
	rt, p := findRoute(&http.Request{Method: method, URL: u})
	if p != nil {
		if !json.Valid(p.body(rt.format)) {
			t.Fatalf("%s %q: the error is no JSON: %s", method, target, p.body(rt.format))
		}
		return
	}
	if strings.ContainsAny(u.Path, "%\\?#; \r\n\x00") || slices.Contains(strings.Split(u.Path, "/"), "..") || strings.Contains(u.Path, "//") {
		t.Fatalf("%s %q passes as %q", method, target, u.Path)
	}
	q, p := readQuestion(body)
	if p != nil {
		return
	}
	var read struct {
		Model  *string
		Stream any
	}
	if err := json.Unmarshal(body, &read); err != nil {
		return // of another type, or not UTF-8: that is the server's to tell
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(body, &members) != nil {
		t.Fatalf("passes as an object: %q", body)
	}
	var model string
	_ = json.Unmarshal(members["model"], &model)
	if model != q.model {
		t.Fatalf("model %q, read as %q in %q", model, q.model, body)
	}
	if (string(members["stream"]) == "true") != q.stream {
		t.Fatalf("stream %q, read as %t in %q", members["stream"], q.stream, body)
	}
}
