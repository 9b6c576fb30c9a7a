package announcement

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/berth-lb/berth/api/v1beta1"
)

// lingerPeriodOf is what the stories are told with.
const lingerPeriodOf = 10 * time.Minute

// lingering lets the owner before linger for so long.
func lingering(period time.Duration) func(*Input) {
	return advertise(v1beta1.L2AdvertisementSpec{HandOver: &v1beta1.HandOverPolicy{
		LingerPeriod: &metav1.Duration{Duration: period},
	}})
}

// claimed says what one node claims.
func claimed(node string, claim Claim) func(*Input) {
	return func(in *Input) { in.Claims[node] = claim }
}

// onLinks changes what is known of a speaker and its links.
func onLinks(node string, change func(*Speaker)) func(*Input) {
	return func(in *Input) {
		s := in.Speakers[node]
		change(&s)
		in.Speakers[node] = s
	}
}

func localService(in *Input) {
	in.Services = []Service{{
		Name:      "default/web",
		Ready:     true,
		Local:     true,
		Endpoints: map[string]int{"n1": 1, "n2": 1},
	}}
}

// elapsed says that something has been so for this long.
func elapsed(since *time.Time, long time.Duration) { *since = now.Add(-long) }

// TestQuietOwner tells what n1 does, which takes the address from n2, which is cordoned and claims generation
// 4, and goes on doing.
func TestQuietOwner(t *testing.T) {
	takes := all(lingering(lingerPeriodOf), cordon(1), cordon(2), claims(map[string]uint64{"n2": 4}))
	// it took the address a minute ago, and n2 lingers.
	owns := all(takes, announcing, claimed("n1", Claim{Generation: 5, Quiet: true}),
		claimed("n2", Claim{Generation: 4, Lingers: true}),
		func(in *Input) { elapsed(&in.QuietSince, time.Minute) })
	for _, test := range []struct {
		story  string
		change func(*Input)
		quiet  bool
	}{
		{"a planned move is quiet", takes, true},
		{"without a period it is not", all(takes, lingering(0)), false},
		{"nor for a Service that is Local", all(takes, localService), false},
		{"nor if one of two Services is", all(takes, func(in *Input) {
			in.Services = append(in.Services, Service{Name: "default/local", Local: true})
		}), false},
		{"a preferred node takes it quietly",
			all(lingering(lingerPeriodOf), func(in *Input) {
				in.Config = parsed(v1beta1.L2AdvertisementSpec{
					HandOver: &v1beta1.HandOverPolicy{LingerPeriod: &metav1.Duration{Duration: time.Minute}},
					PreferredNodeSelectors: []v1beta1.PreferredNodeSelector{{
						Weight:     1,
						Preference: selector("name", "n1")[0],
					}},
				})
			}, claims(map[string]uint64{"n2": 4})), true},
		{"and so it is with the exclude label",
			all(lingering(lingerPeriodOf), exclude(1), exclude(2), claims(map[string]uint64{"n2": 4})), true},
		{"the address of a dead node is announced at once", all(takes, presence("n2", Gone)), false},
		{"that of one whose speaker leaves, too", all(takes, presence("n2", Leaving)), false},
		{"and of one that has no network",
			all(takes, func(in *Input) { in.Nodes[1].NetworkUnavailable = true }), false},
		{"and of one that is silent on the LAN",
			all(takes, onLinks("n2", func(s *Speaker) { s.SilentLinks = []string{"eth0"} })), false},
		{"and of one without a link", all(takes, onLinks("n2", func(s *Speaker) { s.Links = nil })), false},
		{"one taken in the minority is announced", all(takes, func(in *Input) { in.Minority = true }), false},
		{"one that moves again meanwhile, too",
			all(takes, claimed("n2", Claim{Generation: 4, Quiet: true})), false},
		{"and one whose last owner nobody knows", all(takes, func(in *Input) { in.Highest = 9 }), false},

		{"it stays quiet while the other lingers", owns, true},
		{"it stays quiet until it can have heard that the other lingers",
			all(owns, claims(map[string]uint64{"n2": 4}), func(in *Input) {
				elapsed(&in.QuietSince, time.Second)
			}), true},
		{"but not for longer: the other may be of a version that does not",
			all(owns, claims(map[string]uint64{"n2": 4}), func(in *Input) {
				elapsed(&in.QuietSince, 3*time.Second)
			}), false},
		{"the period is over", all(owns, func(in *Input) { elapsed(&in.QuietSince, lingerPeriodOf) }), false},
		{"a moment before it is not", all(owns, func(in *Input) {
			elapsed(&in.QuietSince, lingerPeriodOf-time.Millisecond)
		}), true},
		{"the other ceases to linger", all(owns, func(in *Input) { delete(in.Claims, "n2") }), false},
		{"its node dies", all(owns, presence("n2", Gone)), false},
		{"its speaker restarts", all(owns, presence("n2", Held)), false},
		{"its speaker is not heard", all(owns, onLinks("n2", func(s *Speaker) { s.Heard = false })), false},
		{"a Service becomes Local", all(owns, localService), false},
		{"the option is taken away", all(owns, lingering(0)), false},
		{"the period is made shorter", all(owns, lingering(30*time.Second)), false},
		{"this speaker was restarted", all(owns, func(in *Input) {
			in.Announcing, in.QuietSince = false, time.Time{}
		}), false},
		{"who has announced is not quiet again",
			all(owns, func(in *Input) { in.QuietSince = time.Time{} }), false},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			test.change(&in)
			d := Decide(in)
			if !d.Announce || d.Reason != v1beta1.ReasonOwner {
				t.Fatalf("does not own the address: %s: %s", d.Reason, d.Message)
			}
			if d.Claim.Quiet != test.quiet || (d.Former == "n2") != test.quiet {
				t.Errorf("claim %+v, after %q; quiet should be %v: %s",
					d.Claim, d.Former, test.quiet, d.Message)
			}
			if test.quiet && (d.Recheck.IsZero() || d.Recheck.After(d.Until)) {
				t.Errorf("decides again at %s, and it is over at %s", d.Recheck, d.Until)
			}
		})
	}
}

// TestLingers tells what n1 does, which is cordoned and claims generation 4, when n2 has taken the address
// with generation 5, and later.
func TestLingers(t *testing.T) {
	lost := all(lingering(lingerPeriodOf), cordon(0), cordon(2), announcing,
		claims(map[string]uint64{"n1": 4}), claimed("n2", Claim{Generation: 5, Quiet: true}))
	does := all(lost, claimed("n1", Claim{Generation: 4, Lingers: true}), func(in *Input) {
		in.Announcing = false
		elapsed(&in.LingeringSince, time.Minute)
	})
	for _, test := range []struct {
		story  string
		change func(*Input)
		reason v1beta1.Reason
	}{
		{"who loses an address to a quiet owner lingers", lost, v1beta1.ReasonLingering},
		{"also after it has handed over for a while",
			all(lost, func(in *Input) { in.HandingOver = now.Add(-time.Second) }), v1beta1.ReasonLingering},
		{"not for one that announces: it may be of a version that knows nothing of this",
			all(lost, claims(map[string]uint64{"n2": 5})), v1beta1.ReasonNotOwner},
		{"not for one whose claim is not the next",
			all(lost, claimed("n2", Claim{Generation: 6, Quiet: true})), v1beta1.ReasonNotOwner},
		{"not without a period", all(lost, lingering(0)), v1beta1.ReasonNotOwner},
		{"not for a Service that is Local", all(lost, localService), v1beta1.ReasonNotOwner},
		{"not as it leaves", all(lost, presence("n1", Leaving)), v1beta1.ReasonNotOwner},
		{"not without a link", all(lost, onLinks("n1", func(s *Speaker) { s.Links = nil })),
			v1beta1.ReasonNotOwner},
		{"not on a LAN where it is not heard",
			all(lost, onLinks("n1", func(s *Speaker) { s.SilentLinks = []string{"eth0"} })),
			v1beta1.ReasonNotOwner},
		{"not while its service proxy does not work",
			all(lost, func(in *Input) { in.ProxyFailed = true }), v1beta1.ReasonNotOwner},
		{"not what it had not announced", all(lost, func(in *Input) { in.Announcing = false }),
			v1beta1.ReasonNotOwner},

		{"it goes on", does, v1beta1.ReasonLingering},
		{"for so long and no longer", all(does, func(in *Input) {
			elapsed(&in.LingeringSince, lingerPeriodOf)
		}), v1beta1.ReasonNotOwner},
		{"the owner announces the address", all(does, claims(map[string]uint64{"n2": 5})),
			v1beta1.ReasonNotOwner},
		{"the owner's speaker restarts, and this node stands in for it",
			all(does, presence("n2", Held)), v1beta1.ReasonStandIn},
		{"the owner dies: of two that are cordoned, who has claimed the address gets it",
			all(does, presence("n2", Gone)), v1beta1.ReasonOwner},
		{"the address moves on", all(does, func(in *Input) {
			in.Nodes[1].Cordoned, in.Nodes[2].Cordoned = true, false
			in.Claims["n3"] = Claim{Generation: 6, Quiet: true}
		}), v1beta1.ReasonNotOwner},
		{"its node gets it back", all(does, func(in *Input) {
			in.Nodes[0].Cordoned, in.Nodes[1].Cordoned = false, true
		}), v1beta1.ReasonOwner},
		{"its speaker leaves", all(does, presence("n1", Leaving)), v1beta1.ReasonNotOwner},
		{"its service proxy fails", all(does, func(in *Input) { in.ProxyFailed = true }),
			v1beta1.ReasonNotOwner},
		{"the option is taken away", all(does, lingering(0)), v1beta1.ReasonNotOwner},
		{"a Service becomes Local", all(does, localService), v1beta1.ReasonNotOwner},
		{"who has ceased to does not begin again",
			all(does, func(in *Input) { in.LingeringSince = time.Time{} }), v1beta1.ReasonNotOwner},
	} {
		t.Run(test.story, func(t *testing.T) {
			in := lan()
			test.change(&in)
			d := Decide(in)
			if d.Reason != test.reason {
				t.Fatalf("%s: %s, want %s", d.Reason, d.Message, test.reason)
			}
			switch d.Reason {
			case v1beta1.ReasonLingering:
				want := Claim{Generation: 4, Lingers: true}
				if !d.Announce || d.LingersFor != "n2" || len(d.Links) == 0 {
					t.Errorf("announce %v, for %q, on %v", d.Announce, d.LingersFor, d.Links)
				}
				if d.Claim == nil || *d.Claim != want {
					t.Errorf("claim %+v, want %+v", d.Claim, want)
				}
			case v1beta1.ReasonStandIn:
				if d.StandInFor != "n2" || d.Claim != nil || d.LingersFor != "" {
					t.Errorf("stands in for %q, for %q, claim %+v", d.StandInFor, d.LingersFor, d.Claim)
				}
			case v1beta1.ReasonNotOwner:
				if d.Announce || d.Claim != nil || d.LingersFor != "" {
					t.Errorf("announce %v, for %q, claim %+v", d.Announce, d.LingersFor, d.Claim)
				}
			case v1beta1.ReasonOwner:
				if d.Claim == nil || d.Claim.Generation != 6 || d.Claim.Quiet || d.Cause == "" {
					t.Errorf("claim %+v, cause %q", d.Claim, d.Cause)
				}
			}
		})
	}
}

// TestShortestLingerPeriod: an advertisement that gives no period is one that wants none.
func TestShortestLingerPeriod(t *testing.T) {
	spec := func(period time.Duration) v1beta1.L2AdvertisementSpec {
		return v1beta1.L2AdvertisementSpec{HandOver: &v1beta1.HandOverPolicy{
			LingerPeriod: &metav1.Duration{Duration: period},
		}}
	}
	web := []Service{{Name: "default/web"}}
	for _, test := range []struct {
		story string
		specs []v1beta1.L2AdvertisementSpec
		want  time.Duration
	}{
		{"none", nil, 0},
		{"one", []v1beta1.L2AdvertisementSpec{spec(time.Minute)}, time.Minute},
		{"the shorter one", []v1beta1.L2AdvertisementSpec{spec(time.Hour), spec(time.Minute)}, time.Minute},
		{"one that says nothing", []v1beta1.L2AdvertisementSpec{spec(time.Hour), {}}, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			if got := lingerPeriod(parsed(test.specs...).L2Advertisements, web); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}
