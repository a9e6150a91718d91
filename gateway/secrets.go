package gateway

import (
	"os"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Secrets are what a configuration has of keys, read from where its file says that
// they are. Nothing prints them.
type Secrets []string

// String tells how many there are.
func (s Secrets) String() string { return "[" + strconv.Itoa(len(s)) + " hidden]" }

// GoString is String, so that %#v tells no more.
func (s Secrets) GoString() string { return s.String() }

// MarshalText is String, for JSON, YAML and logs.
func (s Secrets) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s *Secrets) read(d *document, n *yaml.Node, path string) {
	places := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		places = n.Content
	}
	for _, place := range places {
		for place.Kind == yaml.AliasNode {
			place = place.Alias
		}
		if found, why := d.secret(place); why != "" {
			d.fail(place, path, "%s", why)
		} else {
			*s = append(*s, found...)
		}
	}
}

// secret reads the secrets of one place: those of an environment variable,
// separated by commas, or the lines of a file.
func (d *document) secret(n *yaml.Node) (found []string, why string) {
	text, separator, why := d.secretText(n)
	if why != "" {
		return nil, why
	}
	for part := range strings.SplitSeq(text, separator) {
		if part = strings.TrimSpace(part); part != "" {
			found = append(found, part)
		}
	}
	if len(found) == 0 {
		return nil, n.Value + " is empty"
	}
	return found, ""
}

// secretText reads what is at one place, and tells what separates secrets there.
func (d *document) secretText(n *yaml.Node) (text, separator, why string) {
	if name, ok := strings.CutPrefix(n.Value, "env:"); ok {
		if text, separator = os.Getenv(name), ","; text == "" {
			return "", "", "the environment has no " + name
		}
	} else if path, ok := strings.CutPrefix(n.Value, "file:"); ok {
		path = d.relative(path)
		d.files = append(d.files, lookAt(path))
		data, err := os.ReadFile(path)
		if err != nil {
			return "", "", "cannot read " + path + ": " + reason(err)
		}
		text, separator = string(data), "\n"
	} else { // it may be the secret itself: do not repeat it
		return "", "", "a secret is not written here: say where it is, with env:NAME or file:PATH"
	}
	return text, separator, ""
}
