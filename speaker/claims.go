package main

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

	"github.com/berth-lb/berth/internal/speaker/reconcile"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/membership"
)

// Claims are said in blocks: one statement for sixteen addresses that differ in
// their last hexadecimal digit. So thousands of addresses, most of which follow
// each other, take hundreds of statements, and a node that takes thousands over has
// said so in a few datagrams.
//
// The key names the first address of the block. The value lists the last digits of
// the addresses that are claimed, by generation: "1:037a,2w:5" says that ...0, ...3,
// ...7 and ...a are claimed with generation 1, and ...5 with generation 2, weakly.
// Letters behind a generation are marks. One that is not known is of a later
// version: the claim counts all the same.
const (
	saysClaims = "claims/"
	// saysFull is said, with any value, while this node can say hardly any more
	// claims: it gets no address that it does not claim already.
	saysFull = "full"

	blockSize   = 16
	blockDigits = "0123456789abcdef"
	// markWeak marks a weak claim.
	markWeak = "w"

	// maxBlocks bounds what one node claims: this many addresses, however they are
	// spread, and up to sixteen times as many that follow each other. What it says
	// of its links and of its fellows finds room beside that.
	maxBlocks = membership.MaxStatements - 4096
)

// block is what is claimed of sixteen addresses. A claim of generation 0 is none.
type block [blockSize]announcement.Claim

// blockOf is the first address of an address's block, and its place there.
func blockOf(addr netip.Addr) (first netip.Addr, at int) {
	raw := addr.Unmap().AsSlice()
	last := &raw[len(raw)-1]
	at = int(*last % blockSize)
	*last -= byte(at)
	first, _ = netip.AddrFromSlice(raw)
	return first, at
}

// addressAt is the address at a place of the block that begins with first.
func addressAt(first netip.Addr, at int) netip.Addr {
	raw := first.AsSlice()
	raw[len(raw)-1] += byte(at)
	addr, _ := netip.AddrFromSlice(raw)
	return addr
}

func blockKey(first netip.Addr) string { return saysClaims + first.String() }

// value is what is said of a block; nil takes it back.
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
		if c.Minority {
			out = append(out, markWeak...)
		}
		out = append(append(out, ':'), places[c]...)
	}
	return out
}

// errClaims is the error for claims that cannot be read: there may be more of them
// than were.
var errClaims = errors.New("claims that this version cannot read")

// parseBlockKey reads which block a statement is about.
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

// parseBlock reads what is said of a block. With an error it returns what can be
// read.
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
	return announcement.Claim{Generation: generation, Minority: strings.Contains(text, markWeak)}, true
}

// sayer is what claims want of membership.
type sayer interface {
	Say(key string, value []byte) error
	SayAll(prefix string, values map[string][]byte) error
}

// claims is what this node tells its fellows that it owns. What is set is said
// together: a part of the addresses of a node that is taken over makes few
// statements, each of which is said once.
type claims struct {
	members sayer
	log     *slog.Logger
	most    int // blocks

	mu     sync.Mutex
	blocks map[netip.Addr]block
	unsaid map[netip.Addr]bool
	// full is set while there is hardly any room, fullSaid when the fellows know.
	full, fullSaid bool
}

func newClaims(members sayer, most int, log *slog.Logger) *claims {
	return &claims{members: members, log: log, most: most, blocks: map[netip.Addr]block{}, unsaid: map[netip.Addr]bool{}}
}

// set has the claim of an address said, or taken back when it is nil, with the next
// say. It reports false, and changes nothing, when there is no room for it.
func (c *claims) set(addr netip.Addr, claim *announcement.Claim) bool {
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
	c.unsaid[first] = true
	c.measure()
	return true
}

// measure finds out whether this node is full: while there is no room for one more
// part of the addresses, each in a block of its own. It is not any more when there is
// room for many, so that it does not come and go.
func (c *claims) measure() {
	room := c.most - len(c.blocks)
	switch {
	case room < reconcile.PartSize:
		c.full = true
	case room >= reconcile.PartSize+c.most/16:
		c.full = false
	}
}

// isFull reports whether this node must get no address that it does not claim.
func (c *claims) isFull() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.full
}

// say says what was set since the last time. It reports whether this node became
// full, or is no longer.
func (c *claims) say() (turned bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.SortedFunc(maps.Keys(c.unsaid), netip.Addr.Compare)
	// What is taken back comes first: it makes room.
	for _, first := range list {
		if _, claimed := c.blocks[first]; !claimed {
			c.tell(blockKey(first), nil)
		}
	}
	for _, first := range list {
		if b, claimed := c.blocks[first]; claimed {
			c.tell(blockKey(first), b.value())
		}
	}
	clear(c.unsaid)
	return c.sayFull()
}

// sayAll says all that is claimed, and takes back what else this node said before
// it was started anew.
func (c *claims) sayAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	values := make(map[string][]byte, len(c.blocks))
	for first, b := range c.blocks {
		values[blockKey(first)] = b.value()
	}
	if err := c.members.SayAll(saysClaims, values); err != nil {
		c.log.Error("cannot tell the fellows", "error", err)
	}
	clear(c.unsaid)
	c.fullSaid = !c.full
	c.sayFull()
}

// sayFull says whether this node is full, if that is news.
func (c *claims) sayFull() (turned bool) {
	if c.full == c.fullSaid {
		return false
	}
	c.fullSaid = c.full
	if !c.full {
		c.tell(saysFull, nil)
		return true
	}
	c.log.Warn("this node claims as many addresses as it can tell the fellows of; it gets no more", "count", len(c.blocks))
	c.tell(saysFull, []byte("claims"))
	return true
}

func (c *claims) tell(key string, value []byte) {
	if err := c.members.Say(key, value); err != nil {
		c.log.Error("cannot tell the fellows", "error", err)
	}
}
