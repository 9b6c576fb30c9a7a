package watch

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/berth-lb/berth/e2e/lab"
)

// TrafficConfig says what to send.
type TrafficConfig struct {
	Lab       *lab.Lab
	Host      string // that sends
	Addresses []netip.Addr
	// Port is the UDP port at which the lab's web image answers.
	Port uint16
	// Interval is the time between two probes of an address.
	Interval time.Duration
}

// Traffic is a client that sends a datagram to every address at every interval and notes the answers, until
// it is stopped.
type Traffic struct {
	config  TrafficConfig
	start   time.Time
	index   map[netip.Addr]int
	stop    chan struct{}
	stopped sync.Once
	sending sync.WaitGroup

	mu     sync.Mutex
	probes [][]Probe // by the index of the address
}

// Nodes remember by source port where they have sent a datagram. A node that was asked before its proxy had
// any rules goes on sending those of a port to nowhere, as long as they keep coming. New ports now and then
// keep that out of the figures.
const (
	portLife = 500 * time.Millisecond
	// answerLimit is how long an answer is waited for.
	answerLimit = time.Second
)

// StartTraffic begins to send.
func StartTraffic(config TrafficConfig) (*Traffic, error) {
	t := &Traffic{
		config: config,
		start:  time.Now(),
		index:  make(map[netip.Addr]int, len(config.Addresses)),
		stop:   make(chan struct{}),
		probes: make([][]Probe, len(config.Addresses)),
	}
	for i, addr := range config.Addresses {
		t.index[addr] = i
	}
	sockets, err := t.open()
	if err != nil {
		return nil, err
	}
	t.sending.Go(func() { t.send(sockets) })
	return t, nil
}

// A pair has a socket for each family.
type pair struct{ v4, v6 *net.UDPConn }

// open makes sockets with new ports in the namespace of the client and reads what comes to them. They are
// closed, and reading ends, some time after they were last used.
func (t *Traffic) open() (pair, error) {
	var p pair
	err := t.config.Lab.Host(t.config.Host).Run(func() (err error) {
		if p.v4, err = net.ListenUDP("udp4", nil); err != nil {
			return err
		}
		p.v6, err = net.ListenUDP("udp6", nil)
		return err
	})
	if err != nil {
		return p, err
	}
	go t.receive(p.v4)
	go t.receive(p.v6)
	return p, nil
}

func (p pair) closeLater() {
	time.AfterFunc(answerLimit, func() { _ = errors.Join(p.v4.Close(), p.v6.Close()) })
}

func (t *Traffic) send(sockets pair) {
	defer func() { sockets.closeLater() }()
	ticker := time.NewTicker(t.config.Interval)
	defer ticker.Stop()
	opened := time.Now()
	var text []byte
	for {
		for i, addr := range t.config.Addresses {
			socket := sockets.v4
			if addr.Is6() {
				socket = sockets.v6
			}
			t.mu.Lock()
			seq := len(t.probes[i])
			t.probes[i] = append(t.probes[i], Probe{Sent: time.Since(t.start)})
			t.mu.Unlock()
			text = strconv.AppendInt(text[:0], int64(seq), 10)
			// What cannot be sent is not answered.
			_, _ = socket.WriteToUDPAddrPort(text, netip.AddrPortFrom(addr, t.config.Port))
		}
		select {
		case <-ticker.C:
		case <-t.stop:
			return
		}
		if time.Since(opened) > portLife {
			if fresh, err := t.open(); err == nil {
				sockets.closeLater()
				sockets, opened = fresh, time.Now()
			}
		}
	}
}

// receive notes answers until the socket is closed. An answer ends with data="N".
func (t *Traffic) receive(socket *net.UDPConn) {
	buffer := make([]byte, 2048)
	for {
		n, from, err := socket.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		_, text, found := bytes.Cut(buffer[:n], []byte(` data="`))
		seq, err := strconv.Atoi(string(bytes.TrimRight(text, "\"\n")))
		i, known := t.index[from.Addr().Unmap()]
		if !found || !known || err != nil {
			continue
		}
		t.mu.Lock()
		if seq >= 0 && seq < len(t.probes[i]) {
			t.probes[i][seq].Answered = time.Since(t.start)
		}
		t.mu.Unlock()
	}
}

// Outage tells what an address lost between two times. Probes that are still on their way count as lost: let
// the end be a moment ago.
func (t *Traffic) Outage(addr netip.Addr, from, to time.Time) Outage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return OutageOf(t.probes[t.index[addr]], from.Sub(t.start), to.Sub(t.start), t.config.Interval)
}

// Steady is true when every probe of every address sent between two times was answered, and there were some.
func (t *Traffic) Steady(from, to time.Time) (steady bool, silent []netip.Addr) {
	for _, addr := range t.config.Addresses {
		if o := t.Outage(addr, from, to); o.Sent == 0 || o.Lost > 0 {
			silent = append(silent, addr)
		}
	}
	return len(silent) == 0, silent
}

// Stop ends sending. It may be called again.
func (t *Traffic) Stop() {
	t.stopped.Do(func() { close(t.stop) })
	t.sending.Wait()
}
