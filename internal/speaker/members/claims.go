package members

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/membership"
)

// Claims are published in blocks: one entry for sixteen addresses that differ in their
// last hexadecimal digit. So thousands of addresses, most of which follow each other,
// take hundreds of entries, and a node that takes thousands over has published that in a
// few datagrams.
//
// The key names the first address of the block. The value lists the last digits of the
// addresses that are claimed, by generation: "1:037a,2w:5" means that ...0, ...3, ...7 and
// ...a are claimed with generation 1, and ...5 with a minority claim of generation 2; "1l"
// and "2q" are the claims of a node that lingers and of the owner, which is quiet.
// Letters behind a generation are marks. An unknown mark comes from a later version: the
// claim counts all the same.
const (
	keyClaims = "claims/"
	// keyFull exists, with any value, while this node has hardly any room for more claims.
	// Other members then give it no address that it does not claim already.
	keyFull = "full"

	blockSize   = 16
	blockDigits = "0123456789abcdef"
	// markMinority marks a minority claim, markQuiet that of an owner that announces nothing,
	// markLingers that of a node which lingers.
	markMinority = "w"
	markQuiet    = "q"
	markLingers  = "l"

	// MaxBlocks bounds what one node claims: this many addresses, however they are
	// spread, and up to sixteen times as many that follow each other. What it
	// publishes of its links and of other nodes finds room beside that.
	MaxBlocks = membership.MaxEntries - 4096
)

// block holds the claims of sixteen addresses. A claim of generation 0 is none.
type block [blockSize]announcement.Claim

// blockOf returns the first address of an address's block, and its place there.
func blockOf(addr netip.Addr) (first netip.Addr, at int) {
	raw := addr.Unmap().AsSlice()
	last := &raw[len(raw)-1]
	at = int(*last % blockSize)
	*last -= byte(at)
	first, _ = netip.AddrFromSlice(raw)
	return first, at
}

// addressAt returns the address at a place of the block that begins with first.
func addressAt(first netip.Addr, at int) netip.Addr {
	raw := first.AsSlice()
	raw[len(raw)-1] += byte(at)
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func blockKey(first netip.Addr) string { return keyClaims + first.String() }

// value returns the published form of a block; nil deletes the entry.
func (b block) value() []byte {
	places := map[announcement.Claim][]byte{}
	var claims []announcement.Claim
	for at, c := range b {
		if c.Generation == 0 {
			continue
		}
		if places[c] == nil {
			claims = append(claims, c)
		}
		places[c] = append(places[c], blockDigits[at])
	}
	var out []byte
	for i, c := range claims {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, c.Generation, 10)
		for _, mark := range []struct {
			text string
			set  bool
		}{
			{markMinority, c.Minority},
			{markQuiet, c.Quiet},
			{markLingers, c.Lingers},
		} {
			if mark.set {
				out = append(out, mark.text...)
			}
		}
		out = append(append(out, ':'), places[c]...)
	}
	return out
}

// errClaims is the error for claims that cannot be read: there may be more than were read.
var errClaims = errors.New("claims that this version cannot read")

// parseBlockKey reads which block an entry is about.
func parseBlockKey(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" || addr.Is4In6() {
		return netip.Addr{}, fmt.Errorf("%w: of %q", errClaims, text)
	}
	if first, _ := blockOf(addr); first != addr {
		return netip.Addr{}, fmt.Errorf("%w: of %q", errClaims, text)
	}
	return addr, nil
}

// parseBlock reads the published form of a block. With an error, it returns the claims that
// it could read.
func parseBlock(value []byte) (block, error) {
	var out block
	var err error
	for item := range bytes.SplitSeq(value, []byte{','}) {
		head, places, found := strings.Cut(string(item), ":")
		claim, ok := parseClaim(head)
		if !found || !ok {
			err = fmt.Errorf("%w: %q", errClaims, item)
			continue
		}
		for _, digit := range places {
			at := strings.IndexRune(blockDigits, digit)
			if at < 0 {
				err = fmt.Errorf("%w: %q", errClaims, item)
				continue
			}
			out[at] = claim
		}
	}
	return out, err
}

// parseClaim reads a generation and its marks.
func parseClaim(text string) (announcement.Claim, bool) {
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	generation, err := strconv.ParseUint(digits, 10, 63)
	if err != nil || generation == 0 {
		return announcement.Claim{}, false
	}
	return announcement.Claim{
		Generation: generation,
		Minority:   strings.Contains(text, markMinority),
		Quiet:      strings.Contains(text, markQuiet),
		Lingers:    strings.Contains(text, markLingers),
	}, true
}

// decodeClaims reads the claims that a member publishes. unknown is set if it could not
// read all of them.
func decodeClaims(published map[string][]byte) (claims map[netip.Addr]announcement.Claim, unknown bool) {
	claims = map[netip.Addr]announcement.Claim{}
	for key, value := range published {
		text, ok := strings.CutPrefix(key, keyClaims)
		if !ok {
			continue
		}
		first, err := parseBlockKey(text)
		if err != nil {
			unknown = true
			continue
		}
		b, err := parseBlock(value)
		for at, claim := range b {
			if claim.Generation > 0 {
				claims[addressAt(first, at)] = claim
			}
		}
		unknown = unknown || err != nil
	}
	return claims, unknown
}

// Publisher publishes entries of this member to the others.
type Publisher interface {
	// Publish publishes the value of a key; nil deletes the key.
	Publish(key string, value []byte) error
	// PublishPrefix does the same for all keys with a prefix, and deletes those without a
	// value.
	PublishPrefix(prefix string, values map[string][]byte) error
}

// Claims publishes which addresses this node owns. It publishes what was set since the last
// time together: a batch of addresses makes few entries, each sent once. It is safe for
// concurrent use.
type Claims struct {
	to    Publisher
	log   *slog.Logger
	most  int // blocks
	batch int

	mu          sync.Mutex
	blocks      map[netip.Addr]block
	unpublished map[netip.Addr]bool
	// full is set while there is hardly any room, fullPublished once that is published.
	full, fullPublished bool
}

// NewClaims returns Claims without any claim, which publishes at most this many blocks.
// batch is how many addresses are set, at most, before the next Publish.
func NewClaims(to Publisher, most, batch int, log *slog.Logger) *Claims {
	return &Claims{
		to:          to,
		log:         log,
		most:        most,
		batch:       batch,
		blocks:      map[netip.Addr]block{},
		unpublished: map[netip.Addr]bool{},
	}
}

// Set sets the claim of an address, or deletes it if claim is nil; the next Publish
// publishes that. It reports false, and changes nothing, if there is no room.
func (c *Claims) Set(addr netip.Addr, claim *announcement.Claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	first, at := blockOf(addr)
	b, known := c.blocks[first]
	was := b[at]
	b[at] = announcement.Claim{}
	if claim != nil {
		b[at] = *claim
	}
	switch {
	case b[at] == was:
		return true
	case !known && len(c.blocks) >= c.most:
		return false
	case b == block{}:
		delete(c.blocks, first)
	default:
		c.blocks[first] = b
	}
	c.unpublished[first] = true
	c.measure()
	return true
}

// measure sets full when there is no room for one more batch of addresses, each in a block
// of its own. It clears full only when there is room for many, so that full does not flap.
func (c *Claims) measure() {
	room := c.most - len(c.blocks)
	switch {
	case room < c.batch:
		c.full = true
	case room >= c.batch+c.most/16:
		c.full = false
	}
}

// IsFull reports whether this node must get no address that it does not claim.
func (c *Claims) IsFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.full
}

// Publish publishes what was set since the last time. It reports whether this node became
// full or ceased to be.
func (c *Claims) Publish() (turned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.SortedFunc(maps.Keys(c.unpublished), netip.Addr.Compare)
	// Deletions come first: they make room.
	for _, first := range list {
		if _, claimed := c.blocks[first]; !claimed {
			c.publish(blockKey(first), nil)
		}
	}
	for _, first := range list {
		if b, claimed := c.blocks[first]; claimed {
			c.publish(blockKey(first), b.value())
		}
	}
	clear(c.unpublished)
	return c.publishFull()
}

// PublishAll publishes all claims, and deletes what else this node published before it was
// restarted.
func (c *Claims) PublishAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	values := make(map[string][]byte, len(c.blocks))
	for first, b := range c.blocks {
		values[blockKey(first)] = b.value()
	}
	if err := c.to.PublishPrefix(keyClaims, values); err != nil {
		c.log.Error("cannot publish to other speakers", "error", err)
	}
	clear(c.unpublished)
	c.fullPublished = !c.full
	c.publishFull()
}

// publishFull publishes whether this node is full, if that has changed.
func (c *Claims) publishFull() (turned bool) {
	if c.full == c.fullPublished {
		return false
	}
	c.fullPublished = c.full
	if !c.full {
		c.publish(keyFull, nil)
		return true
	}
	c.log.Warn("no room for more claims; this node gets no more addresses",
		"count", len(c.blocks))
	c.publish(keyFull, []byte("claims"))
	return true
}

// publish publishes one entry; nil deletes it. The caller holds mu.
func (c *Claims) publish(key string, value []byte) {
	if err := c.to.Publish(key, value); err != nil {
		c.log.Error("cannot publish to other speakers", "error", err)
	}
}
