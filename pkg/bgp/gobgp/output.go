package gobgp

import "time"

// gobgp queues without a bound what it is to send. So it is given more only as the router
// takes it: what changes meanwhile is counted with what is given next, and of several
// requests to send all routes again (RFC 2918) one counts.
const (
	// quiet is how long nothing is sent when all has been sent: nothing tells
	// what gobgp still has in its queue, but it sends at once.
	quiet = 100 * time.Millisecond
	// mostQueued is how many changes of routes gobgp is given before it is known
	// that the router has taken the first of them.
	mostQueued = 1024
	// refreshPause is the least time from one sending of all routes to the next.
	refreshPause = time.Second
)

// output decides when gobgp is given what is to be sent to one router. It is
// pure.
type output struct {
	// routesDue is set while routes may differ from what gobgp has, refreshDue
	// while the router waits for all routes.
	routesDue, refreshDue bool
	// queued is how many changes gobgp may not have sent yet, given is when it
	// got the last of them.
	queued    int
	given     time.Time
	refreshed time.Time // when all were last sent again
	// full is set when something had to wait: then everything does until the
	// router has taken all.
	full bool
}

// sendState is how far the router has taken what it was sent.
type sendState struct {
	blocked bool      // a message is on its way
	last    time.Time // when the last one went
}

// waiting reports whether something is due.
func (o *output) waiting() bool { return o.routesDue || o.refreshDue }

// taken records what the router has taken, and reports whether that is all.
func (o *output) taken(now time.Time, l sendState) bool {
	last := l.last
	if o.given.After(last) {
		last = o.given
	}
	if l.blocked || now.Sub(last) < quiet {
		return false
	}
	o.queued, o.full = 0, false
	return true
}

// waits reports whether changes have to wait, however many they are: then nobody need
// count them.
func (o *output) waits(now time.Time, l sendState) bool { return o.full && !o.taken(now, l) }

// mayGive reports whether gobgp may have a number of changes now. When it has sent
// all, it may have any.
func (o *output) mayGive(now time.Time, l sendState, changes int) bool {
	may := changes == 0 || o.taken(now, l) || o.queued+changes <= mostQueued
	o.full = !may
	return may
}

// gave records that gobgp was given changes.
func (o *output) gave(now time.Time, changes int) {
	if changes > 0 {
		o.queued += changes
		o.given = now
	}
}

// mayRefresh reports whether all routes may be sent again now.
func (o *output) mayRefresh(now time.Time, l sendState) bool {
	return o.refreshDue && o.taken(now, l) && now.Sub(o.refreshed) >= refreshPause
}

// Bounds of what is read from a router, which any of them keeps to, however much
// it announces. One that sends more is read no faster.
const (
	readRate     = 32 << 20 // bytes a second, and how many at once
	messageCosts = 256      // a message costs as much as so many bytes
	readPause    = 20 * time.Millisecond
)

// pace bounds what is read from a router. It is pure.
type pace struct {
	spent float64 // bytes, less than readRate of them free
	last  time.Time
}

// take records a message, and returns how long to wait before the next.
func (p *pace) take(now time.Time, bytes int) time.Duration {
	p.spent = max(0, p.spent-now.Sub(p.last).Seconds()*readRate) + messageCosts + float64(bytes)
	p.last = now
	if p.spent < readRate*(1+readPause.Seconds()) {
		return 0
	}
	return readPause
}

// sendHold returns how long a router may take nothing of what it is sent (RFC 9687).
// A router that has read nothing for its hold time has not read a KEEPALIVE
// either. Within leastSendHold, it may be merely busy.
func sendHold(hold time.Duration) time.Duration {
	if hold == 0 {
		return noHoldSendHold
	}
	return max(hold, leastSendHold)
}

const (
	leastSendHold  = 10 * time.Second
	noHoldSendHold = 90 * time.Second
)
