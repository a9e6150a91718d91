package deepseektest

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"sort"
	"strings"
	"time"
)

// endpoint is what serves a path. One of its functions is set, or none if there
// is no such path.
type endpoint struct {
	decode func(c *config, body []byte, beta bool) *ask // asks for an answer
	serve  func(x *exchange, path string) *apiError
}

// route finds the endpoint of a method and path. The paths of the OpenAI format
// exist at the root, under /v1 and under /beta.
func (s *Server) route(method, path string) (e endpoint, beta bool) {
	if path == "/anthropic/v1/messages" && method == http.MethodPost {
		return endpoint{decode: decodeAnthropic}, false
	}
	if rest, ok := strings.CutPrefix(path, "/beta"); ok {
		if !s.cfg.beta {
			return endpoint{}, false
		}
		path, beta = rest, true
	}
	path = strings.TrimPrefix(path, "/v1")

	switch method + " " + path {
	case "POST /chat/completions":
		return endpoint{decode: decodeChat}, beta
	case "POST /completions":
		return endpoint{decode: decodeFIM}, beta
	case "POST /responses":
		return endpoint{decode: decodeResponses}, beta
	case "GET /models":
		return endpoint{serve: (*exchange).listModels}, beta
	case "GET /user/balance":
		return endpoint{serve: (*exchange).balance}, beta
	case "POST /files":
		return endpoint{serve: (*exchange).addFile}, beta
	case "GET /files":
		return endpoint{serve: (*exchange).listFiles}, beta
	}
	switch {
	case strings.HasPrefix(path, "/models/") && method == http.MethodGet:
		return endpoint{serve: (*exchange).oneModel}, beta
	case strings.HasPrefix(path, "/files/") && method == http.MethodGet,
		strings.HasPrefix(path, "/files/") && method == http.MethodDelete:
		return endpoint{serve: (*exchange).oneFile}, beta
	}
	return endpoint{}, beta
}

func (x *exchange) listModels(string) *apiError {
	b := []byte(`{"object":"list","data":[`)
	for i := range x.s.cfg.models {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendModel(b, &x.s.cfg.models[i])
	}
	x.json(append(b, `]}`...))
	return nil
}

func (x *exchange) oneModel(path string) *apiError {
	m := x.s.cfg.model(path[strings.Index(path, "/models/")+len("/models/"):])
	if m == nil {
		return errNotFound()
	}
	x.json(appendModel(nil, m))
	return nil
}

func (x *exchange) balance(string) *apiError {
	x.json(x.s.balanceBody(x.acc))
	return nil
}

// file is an uploaded file. Its content is not kept.
type file struct {
	id      string
	account string
	bytes   int
	created int64
}

func (f file) append(b []byte) []byte {
	return fmt.Appendf(b, `{"id":%q,"object":"file","bytes":%d,"created_at":%d,"filename":"upload","purpose":"vision","status":"processed"}`,
		f.id, f.bytes, f.created)
}

func (x *exchange) addFile(string) *apiError {
	if len(x.rec.Body) == 0 {
		return errInvalid("file is required")
	}
	sum := sha256.Sum256(x.rec.Body)
	f := file{
		id:      fmt.Sprintf("file-api-%x", sum[:12]),
		account: x.acc.Name,
		bytes:   len(x.rec.Body),
		created: time.Now().Unix(),
	}
	x.s.update(func() { x.s.files[f.id] = f })
	x.json(f.append(nil))
	return nil
}

func (x *exchange) listFiles(string) *apiError {
	var list []file
	x.s.update(func() {
		for _, f := range x.s.files {
			if f.account == x.acc.Name {
				list = append(list, f)
			}
		}
	})
	sort.Slice(list, func(i, j int) bool { return list[i].id < list[j].id })
	b := []byte(`{"object":"list","data":[`)
	for i, f := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = f.append(b)
	}
	x.json(append(b, `],"has_more":false}`...))
	return nil
}

func (x *exchange) oneFile(path string) *apiError {
	id := path[strings.LastIndexByte(path, '/')+1:]
	var f file
	x.s.update(func() {
		f = x.s.files[id]
		if f.account == x.acc.Name && x.r.Method == http.MethodDelete {
			delete(x.s.files, id)
		}
	})
	switch {
	case f.id == "" || f.account != x.acc.Name:
		return errNotFound()
	case x.r.Method == http.MethodDelete:
		x.json(fmt.Appendf(nil, `{"id":%q,"object":"file","deleted":true}`, id))
	default:
		x.json(f.append(nil))
	}
	return nil
}
