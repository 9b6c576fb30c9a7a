package bundle

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Redactor replaces addresses and names by tokens, such as IPV4-1 or NODE-2: the same by the
// same wherever it stands. Tokens have capital letters, which no name has.
//
// It is not safe for concurrent use.
type Redactor struct {
	tokens map[string]string // by what they stand for
	names  map[string]string // known names, with their tokens; kept ones with themselves
	counts map[string]int    // of tokens, by their kind
}

// NewRedactor returns a Redactor that leaves some names as they are.
func NewRedactor(keep ...string) *Redactor {
	r := &Redactor{tokens: map[string]string{}, names: map[string]string{}, counts: map[string]int{}}
	for _, name := range keep {
		r.names[name] = name
	}
	return r
}

// Kinds of tokens.
const (
	kindIPv4  = "IPV4"
	kindIPv6  = "IPV6"
	kindMAC   = "MAC"
	kindLabel = "LABEL"
)

// token returns the token of something of a kind.
func (r *Redactor) token(kind, of string) string {
	key := kind + " " + of
	if r.tokens[key] == "" {
		r.counts[kind]++
		r.tokens[key] = fmt.Sprintf("%s-%d", kind, r.counts[kind])
	}
	return r.tokens[key]
}

// Name has a name replaced from now on, by a token of a kind such as NODE. The kind that a
// name is given first counts.
func (r *Redactor) Name(kind, name string) {
	if name == "" || r.names[name] != "" {
		return
	}
	r.names[name] = r.token(kind, name)
}

var (
	// colons may be an IPv6 address, the hardware address of a link, or a time.
	colons = regexp.MustCompile(`[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f.:]*`)
	mac    = regexp.MustCompile(`^[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}$`)
	dotted = regexp.MustCompile(`[0-9]{1,3}(\.[0-9]{1,3}){3}`)
)

// Text returns a text with all addresses and known names replaced.
func (r *Redactor) Text(text string) string {
	text = colons.ReplaceAllStringFunc(text, func(found string) string {
		end := len(strings.TrimRight(found, ".:"))
		if strings.HasPrefix(found[end:], "::") {
			end += 2 // an address may end like that
		}
		if mac.MatchString(found[:end]) {
			return r.token(kindMAC, strings.ToLower(found[:end])) + found[end:]
		}
		addr, err := netip.ParseAddr(found[:end])
		if err != nil {
			return found
		}
		return r.Addr(addr) + found[end:]
	})
	text = dotted.ReplaceAllStringFunc(text, func(found string) string {
		addr, err := netip.ParseAddr(found)
		if err != nil {
			return found
		}
		return r.Addr(addr)
	})
	return r.replaceNames(text)
}

// Addr returns the token of an address. Loopback and unspecified addresses say nothing about
// anybody, and stay.
func (r *Redactor) Addr(addr netip.Addr) string {
	addr = addr.Unmap()
	switch {
	case addr.IsLoopback() || addr.IsUnspecified():
		return addr.String()
	case addr.Is4():
		return r.token(kindIPv4, addr.String())
	}
	return r.token(kindIPv6, addr.String())
}

// replaceNames replaces known names that stand for themselves, or as part of a longer name
// that is joined by - . or _.
func (r *Redactor) replaceNames(text string) string {
	var out strings.Builder
	for i := 0; i < len(text); {
		if !isLetter(text[i]) {
			out.WriteByte(text[i])
			i++
			continue
		}
		end := r.nameAt(text[i:])
		if end > 0 {
			out.WriteString(r.names[text[i:i+end]])
		} else {
			end = segment(text[i:])
			out.WriteString(text[i : i+end])
		}
		i += end
	}
	return out.String()
}

// mostSegments is of how many parts a name may be, as the names of hosts are.
const mostSegments = 24

// nameAt returns the length of the longest known name with which a text begins, 0 for none.
func (r *Redactor) nameAt(text string) int {
	longest, end := 0, 0
	for range mostSegments {
		end += segment(text[end:])
		if r.names[text[:end]] != "" {
			longest = end
		}
		if end+1 >= len(text) || !isJoin(text[end]) || !isLetter(text[end+1]) {
			break
		}
		end++
	}
	return longest
}

// segment returns how many letters and digits a text begins with.
func segment(text string) int {
	i := 0
	for i < len(text) && isLetter(text[i]) {
		i++
	}
	return i
}

func isLetter(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

func isJoin(c byte) bool { return c == '-' || c == '.' || c == '_' }

// JSONLines returns a text with each line redacted; of lines that are JSON objects, only the
// values are, not the keys.
func (r *Redactor) JSONLines(text []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		out.Write(r.jsonLine(line))
	}
	return out.Bytes()
}

// jsonLine redacts a line. What is in front of an object, such as a time, is a text.
func (r *Redactor) jsonLine(line []byte) []byte {
	i := bytes.IndexByte(line, '{')
	if i < 0 || !json.Valid(line[i:]) {
		return []byte(r.Text(string(line)))
	}
	var out bytes.Buffer
	out.WriteString(r.Text(string(line[:i])))
	object := line[i:]
	at := 0
	for _, found := range quoted.FindAllIndex(object, -1) {
		out.Write(object[at:found[0]])
		at = found[1]
		text := object[found[0]:at]
		if rest := bytes.TrimLeft(object[at:], " \t"); len(rest) == 0 || rest[0] != ':' {
			text = r.quotedJSON(text)
		}
		out.Write(text)
	}
	out.Write(object[at:])
	return out.Bytes()
}

// quotedJSON redacts a string of JSON.
func (r *Redactor) quotedJSON(text []byte) []byte {
	var plain string
	if err := json.Unmarshal(text, &plain); err != nil {
		return []byte(r.Text(string(text)))
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(r.Text(plain)); err != nil {
		return []byte(`""`)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n"))
}

// Quoted returns a text with what stands in quotes redacted, as the values of the labels of
// metrics do.
func (r *Redactor) Quoted(text []byte) []byte {
	return quoted.ReplaceAllFunc(text, func(found []byte) []byte { return []byte(r.Text(string(found))) })
}

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// Maps of labels, whose keys and values users choose.
var labelMaps = []string{"labels", "annotations", "matchLabels", "nodeSelector", "selector"}

// Fields whose value identifies a machine.
var identifiers = []string{"machineID", "systemUUID", "bootID", "providerID", "clusterID"}

// Object redacts an API object: all strings in it, and of labels and annotations whose keys
// are not those of Kubernetes or Berth, keys and values.
func (r *Redactor) Object(o map[string]any) map[string]any {
	for key, v := range o {
		o[key] = r.field(key, v)
	}
	return o
}

func (r *Redactor) field(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		if slices.Contains(labelMaps, key) && onlyStrings(v) {
			return r.labels(v)
		}
		return r.Object(v)
	case []any:
		if key == "matchExpressions" {
			return r.expressions(v)
		}
		for i, one := range v {
			v[i] = r.field("", one)
		}
		return v
	case string:
		if slices.Contains(identifiers, key) && v != "" {
			return r.token("ID", v)
		}
		return r.Text(v)
	}
	return v
}

func onlyStrings(m map[string]any) bool {
	for _, v := range m {
		if _, is := v.(string); !is {
			return false
		}
	}
	return true
}

// ownKeys are parts of the names of labels and annotations that everybody has.
var ownKeys = []string{"kubernetes.io/", "k8s.io/", "berth.io/", "metallb.io/", "metallb.universe.tf/"}

// isOwnKey reports whether a label or an annotation is of Kubernetes or Berth.
func isOwnKey(key string) bool {
	return slices.ContainsFunc(ownKeys, func(own string) bool {
		domain, _, _ := strings.Cut(key, "/")
		domain += "/"
		return domain == own || strings.HasSuffix(domain, "."+own)
	})
}

func (r *Redactor) labels(m map[string]any) map[string]any {
	out := map[string]any{}
	for key, v := range m {
		text, _ := v.(string)
		if isOwnKey(key) {
			out[key] = r.Text(text)
		} else {
			out[r.token(kindLabel, key)] = r.label(text)
		}
	}
	return out
}

// label returns the token of the value of a label.
func (r *Redactor) label(value string) string {
	if value == "" {
		return ""
	}
	return r.token(kindLabel, "="+value)
}

// expressions redacts what selectors compare labels with.
func (r *Redactor) expressions(list []any) []any {
	for _, one := range list {
		e, is := one.(map[string]any)
		if !is {
			continue
		}
		key, _ := e["key"].(string)
		values, _ := e["values"].([]any)
		own := isOwnKey(key)
		if !own {
			e["key"] = r.token(kindLabel, key)
		}
		for i, v := range values {
			text, _ := v.(string)
			if own {
				values[i] = r.Text(text)
			} else {
				values[i] = r.label(text)
			}
		}
	}
	return list
}
