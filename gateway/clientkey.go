package gateway

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strings"
)

// NewKey makes a key for a client, with 130 bits of chance in it.
func NewKey() string { return "sk-seawall-" + rand.Text() }

const hashPrefix = "sha256:"

// HashKey is what of a key is kept. Plain SHA-256 is enough for that: a slow hash
// is for passwords, which can be guessed, and would cost every request
// milliseconds.
func HashKey(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hashPrefix + hex.EncodeToString(sum[:])
}

// digest is a hash as keys are found by it.
type digest [sha256.Size]byte

func parseHash(hash string) (d digest, ok bool) {
	text, ok := strings.CutPrefix(hash, hashPrefix)
	raw, err := hex.DecodeString(text)
	if !ok || err != nil || len(raw) != len(d) {
		return d, false
	}
	return digest(raw), true
}

// presented is the key that a request comes with, in any of the headers that
// SDKs send one in; empty if there is none.
func presented(h http.Header) string {
	if scheme, key, ok := strings.Cut(h.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return strings.TrimSpace(key)
	}
	if key := h.Get("X-Api-Key"); key != "" { // Anthropic
		return key
	}
	return h.Get("Api-Key") // Azure
}

// roster is the clients by the hashes of their keys.
type roster map[digest]*client

// find returns whose key it is. How long that takes tells nothing of the keys
// that there are: what is looked up and compared are hashes, which nobody can
// choose.
func (r roster) find(key string) *client {
	d := digest(sha256.Sum256([]byte(key)))
	c := r[d]
	if c == nil {
		return nil
	}
	c.mu.Lock()
	digests := c.digests // replaced, never changed
	c.mu.Unlock()
	for _, hash := range digests {
		if subtle.ConstantTimeCompare(hash[:], d[:]) == 1 {
			return c
		}
	}
	return nil
}
