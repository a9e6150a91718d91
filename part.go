package deepseek

// Part is a piece of a message's content. Make it with [TextPart], [ImagePart]
// or [FilePart]. Images are for deepseek-flash only.
type Part struct {
	Type     string // "text", "image_url" or "file"
	Text     string // of a text
	ImageURL string // an https: or data: URL
	Detail   string // of an image: "low", "high", "auto"; empty is the server's default
	FileID   string // such as "file-api-…"
	Extra    Extra  // what else there is
}

// TextPart returns a piece of text.
func TextPart(text string) Part { return Part{Type: "text", Text: text} }

// ImagePart returns an image, given as an https: or data: URL.
func ImagePart(url string) Part { return Part{Type: "image_url", ImageURL: url} }

// FilePart returns a file that was uploaded before.
func FilePart(id string) Part { return Part{Type: "file", FileID: id} }

// UnmarshalJSON implements [encoding/json.Unmarshaler].
func (p *Part) UnmarshalJSON(data []byte) error { return unmarshal(data, p.decode) }

// MarshalJSON implements [encoding/json.Marshaler].
func (p Part) MarshalJSON() ([]byte, error) { return marshal(p.encode) }

func (p *Part) decode(data []byte) error {
	return decodeObject(data, &p.Extra, func(key, value []byte) bool {
		switch string(key) {
		case "type":
			return decodeString(value, &p.Type)
		case "text":
			return decodeString(value, &p.Text)
		case "image_url":
			p.ImageURL, p.Detail = "", ""
			return decodeMembers(value, func(key, value []byte) bool {
				switch string(key) {
				case "url":
					return decodeString(value, &p.ImageURL)
				case "detail":
					return decodeString(value, &p.Detail)
				}
				return false
			})
		case "file":
			p.FileID = ""
			return decodeMembers(value, func(key, value []byte) bool {
				return string(key) == "file_id" && decodeString(value, &p.FileID)
			})
		}
		return false
	})
}

func (p *Part) encode(w *jsonWriter) {
	o := w.object(p.Extra)
	o.str("type", p.Type)
	if p.Type == "text" || p.Text != "" {
		o.str("text", p.Text)
	}
	if p.ImageURL != "" && o.member("image_url") {
		image := w.object(nil)
		image.str("url", p.ImageURL)
		image.optional("detail", p.Detail)
		image.end()
	}
	if p.FileID != "" && o.member("file") {
		file := w.object(nil)
		file.str("file_id", p.FileID)
		file.end()
	}
	o.end()
}
