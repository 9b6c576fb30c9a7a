// Package succession has two speakers of one node meet, the one that works and its
// successor, so that an update leaves no moment in which nobody answers for the node's
// addresses. The successor prepares all that needs no port and asks; the other one ends
// what uses ports, and goes on answering ARP and NDP until the successor announces.
// [Course] decides what the one that works does, [Office] and [Former] are the two ends of
// the connection between them.
package succession

import "time"

// State is how far a speaker is with giving way.
type State int

// The states of a speaker.
const (
	// Working: the speaker does everything.
	Working State = iota
	// Releasing: it ends all that uses a port, because its successor has asked.
	Releasing
	// Answering: its ports are free. It only answers ARP and NDP.
	Answering
	// Idle: its successor announces. It does nothing and waits until it is told to end: if
	// it ended by itself, it would be started anew.
	Idle
	// Ended: nothing can happen any more.
	Ended
)

// Event is what a speaker hears.
type Event int

// What a speaker hears.
const (
	// Met: a successor has connected, which prepares itself.
	Met Event = iota
	// Asked: the successor is prepared.
	Asked
	// Released: all that used a port has ended.
	Released
	// Announces: the successor announces what this node owns.
	Announces
	// Lost: the successor is gone.
	Lost
	// Told: the process is to end. ToldAlone: the same, and its node stays while nobody else
	// answers in its place.
	Told
	ToldAlone
	// Late: what was waited for took longer than [Course.Patience].
	Late
)

// Act is what a speaker is to do.
type Act int

// What a course may ask of a speaker.
const (
	// Nothing is to be done.
	Nothing Act = iota
	// Leave: end as a speaker without a successor does.
	Leave
	// Release: end all that uses a port, and go on answering.
	Release
	// Yield: tell the successor that the ports are free.
	Yield
	// Silence: answer nothing any more.
	Silence
	// End: the process ends.
	End
	// Restart: start once more, because nobody else works on this node.
	Restart
)

// Course is what a speaker knows of its succession. The zero value is that of one that
// works and has no successor.
type Course struct {
	State State
	// Successor is set while one is connected, Told once the process is to end, and Awaits
	// while it nevertheless waits for a successor to connect.
	Successor bool
	Told      bool
	Awaits    bool
}

// meetingPatience is how long a speaker that is to end, and in whose place nobody answers,
// waits for a successor: the controller of the DaemonSet creates the next pod as soon as
// one is deleted, and a container starts within a second or two.
const meetingPatience = 5 * time.Second

// takeoverPatience is how long a speaker that is to end goes on for a successor: one that
// has connected prepares itself within seconds, or waits for the API server.
const takeoverPatience = 20 * time.Second

// Patience returns how long the speaker waits for the next event before it is Late; 0 for
// ever. The other nodes leave a restarting one its addresses for hold: a speaker must not
// answer for longer.
func (c Course) Patience(hold time.Duration) time.Duration {
	switch {
	case c.State == Working && c.Told && c.Successor:
		return takeoverPatience
	case c.State == Working && c.Awaits:
		return meetingPatience
	case c.State == Answering:
		return max(min(takeoverPatience, hold), time.Millisecond)
	}
	return 0
}

// Next returns the course after an event, and what is to be done.
func (c Course) Next(e Event) (Course, Act) {
	switch e {
	case Met:
		c.Successor = true
	case Lost:
		c.Successor = false
	case ToldAlone:
		c.Told, c.Awaits = true, c.State == Working && !c.Successor
		e = Told
	case Told:
		c.Told = true
	}
	switch c.State {
	case Working:
		return c.working(e)
	case Releasing:
		if e == Released && c.Successor {
			return c.at(Answering), Yield
		}
		if e == Released {
			return c.alone()
		}
	case Answering:
		switch e {
		case Announces, Late:
			if c.Told {
				return c.at(Ended), End
			}
			return c.at(Idle), Silence
		case Lost:
			return c.alone()
		}
	case Idle:
		switch e {
		case Told:
			return c.at(Ended), End
		case Lost:
			return c.alone()
		}
	}
	return c, Nothing
}

// working returns the course after an event of a speaker that works. One that is to end
// goes on while a successor prepares itself.
func (c Course) working(e Event) (Course, Act) {
	switch {
	case e == Asked && c.Successor:
		return c.at(Releasing), Release
	case e == Released: // it has ended by itself
		return c.at(Ended), End
	case e == Met:
		c.Awaits = false
	case e == Told && !c.Successor && !c.Awaits, e == Lost && c.Told, e == Late && c.Told:
		return c.at(Ended), Leave
	}
	return c, Nothing
}

// alone returns the course of a speaker that has given way to one that is gone.
func (c Course) alone() (Course, Act) {
	if c.Told {
		return c.at(Ended), End
	}
	return c.at(Ended), Restart
}

// at returns the course in another state.
func (c Course) at(s State) Course {
	c.State = s
	return c
}
