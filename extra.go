package deepseek

import (
	"encoding/json"
	"maps"
	"slices"
)

// Extra holds the members of a JSON object that its Go type has no field for, as
// raw JSON by name: fields that DeepSeek has added since, or that another host
// adds. A known member whose value is of an unexpected type is kept here too.
// Encoding writes them back, and prefers them over the field of the same name.
// nil, the normal case, is none.
type Extra map[string]json.RawMessage

// merge adds more to e; of equal names more's counts.
func (e *Extra) merge(more Extra) {
	if len(more) == 0 {
		return
	}
	if *e == nil {
		*e = Extra{}
	}
	maps.Copy(*e, more)
}

// ofRequest is what was left over when a request was decoded, for its field Extra. A
// known member is left over only if its value is of the wrong type, which is an error.
func (e Extra) ofRequest(known []string) (map[string]any, error) {
	if e == nil {
		return nil, nil
	}
	rest := make(map[string]any, len(e))
	for name, value := range e {
		if slices.Contains(known, name) {
			return nil, &RequestError{Field: name, Value: snippet(value), Reason: "is not what it can be"}
		}
		rest[name] = value
	}
	return rest, nil
}
