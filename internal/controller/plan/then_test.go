package plan

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/internal/controller/controllertest"
	"github.com/berth-lb/berth/pkg/config"
)

// outcome returns what a plan makes of each Service.
func outcome(p Plan) []string {
	var out []string
	for _, s := range p.Services {
		text := fmt.Sprintf("%s %s", s.Key.Name, s.Reason)
		for _, addr := range s.Addresses {
			text += " " + addr.String()
		}
		out = append(out, text)
	}
	return out
}

// TestWhatComesOfAChange: a controller that has done one thing is given other objects.
func TestWhatComesOfAChange(t *testing.T) {
	lan := func(ranges ...v1beta1.AddressRange) *v1beta1.IPAddressPool {
		return controllertest.Pool("lan", 0, ranges...)
	}
	edited := func(p *v1beta1.IPAddressPool) *v1beta1.IPAddressPool {
		p.Generation++
		return p
	}
	moving := func(p *v1beta1.IPAddressPool) *v1beta1.IPAddressPool {
		p.Spec.OnShrink = v1beta1.OnShrinkMove
		return p
	}
	one := controllertest.Service("one", 1, controllertest.Having("192.0.2.1"))
	two := controllertest.Service("two", 2, controllertest.Having("192.0.2.2"))
	three := controllertest.Service("three", 3)
	changed := func(change func(*corev1.Service)) *corev1.Service {
		s := one.DeepCopy()
		s.ResourceVersion = "+"
		change(s)
		return s
	}
	full := Snapshot{Objects: pools(lan("192.0.2.1-192.0.2.2")), Services: services(one, two, three)}
	for _, test := range []struct {
		story         string
		before, after Snapshot
		want          []string
		later         time.Duration
	}{
		{"nothing", full, full,
			[]string{"one Assigned 192.0.2.1", "three PoolsExhausted", "two Assigned 192.0.2.2"}, 0},
		{"who goes makes room", full,
			Snapshot{Objects: full.Objects, Services: services(two, three)},
			[]string{"three Assigned 192.0.2.1", "two Assigned 192.0.2.2"}, 0},
		{"and so does who wants another class", full,
			Snapshot{
				Objects:  full.Objects,
				Services: services(changed(controllertest.OfClass("other")), two, three),
			},
			[]string{"three Assigned 192.0.2.1", "two Assigned 192.0.2.2"}, 0},
		{"or another type", full,
			Snapshot{Objects: full.Objects, Services: services(changed(func(s *corev1.Service) {
				s.Spec.Type = corev1.ServiceTypeClusterIP
			}), two, three)},
			[]string{"three Assigned 192.0.2.1", "two Assigned 192.0.2.2"}, 0},
		{"a wider pool has one more", full,
			Snapshot{Objects: pools(edited(lan("192.0.2.1-192.0.2.3"))), Services: full.Services},
			[]string{"one Assigned 192.0.2.1", "three Assigned 192.0.2.3", "two Assigned 192.0.2.2"}, 0},
		{"what a pool no longer contains is kept", full,
			Snapshot{Objects: pools(edited(lan("192.0.2.2-192.0.2.3"))), Services: full.Services},
			[]string{"one Assigned 192.0.2.1", "three Assigned 192.0.2.3", "two Assigned 192.0.2.2"}, 0},
		{"or moves", full,
			Snapshot{Objects: pools(edited(moving(lan("192.0.2.2-192.0.2.3")))), Services: full.Services},
			[]string{"one PoolGone", "three Assigned 192.0.2.3", "two Assigned 192.0.2.2"}, 0},
		{"a pool that becomes invalid stays as it was", full,
			Snapshot{Objects: pools(edited(lan("192.0.2.9-192.0.2.1"))), Services: full.Services},
			[]string{"one Assigned 192.0.2.1", "three PoolsExhausted", "two Assigned 192.0.2.2"}, 0},
		{"a deleted pool has its grace", full,
			Snapshot{Services: full.Services},
			[]string{"one PoolGone", "three NoPools", "two PoolGone"}, config.ReplaceGrace},
		{"under another name it loses nothing", full,
			Snapshot{
				Objects:  pools(controllertest.Pool("new", 9, "192.0.2.1-192.0.2.3")),
				Services: full.Services,
			},
			[]string{"one Assigned 192.0.2.1", "three Assigned 192.0.2.3", "two Assigned 192.0.2.2"},
			config.ReplaceGrace},
		{"what others name is withheld",
			Snapshot{Objects: full.Objects, Services: services(one, three)},
			Snapshot{Objects: full.Objects, Services: services(one, three,
				controllertest.Service("naming", 9, func(s *corev1.Service) {
					s.Spec.Type, s.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{"192.0.2.2"}
				}))},
			[]string{"one Assigned 192.0.2.1", "three Assigned 192.0.2.2"}, 0},
	} {
		t.Run(test.story, func(t *testing.T) {
			before := slices.Clone(test.after.Services)
			was, err := Of(test.before, controllertest.Birth)
			if err != nil {
				t.Fatal(err)
			}
			settled, err := was.Then(test.before)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(outcome(was), outcome(settled)); diff != "" {
				t.Errorf("no change changes something, -before +after:\n%s", diff)
			}
			is, err := settled.Then(test.after)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, outcome(is)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if got := is.At().Sub(settled.At()); got != test.later {
				t.Errorf("all has happened after %s, want %s", got, test.later)
			}
			if diff := cmp.Diff(before, test.after.Services); diff != "" {
				t.Errorf("the snapshot has changed:\n%s", diff)
			}
		})
	}
}

// TestWhatIsReadyAfterAChange: the Ready conditions are those of the objects then.
func TestWhatIsReadyAfterAChange(t *testing.T) {
	in := Snapshot{Objects: pools(controllertest.Pool("lan", 0, "192.0.2.0/24"))}
	in.Objects.L2Advertisements = []v1beta1.L2Advertisement{{}}
	in.Objects.L2Advertisements[0].Name = "lan"
	in.Objects.L2Advertisements[0].Spec.IPAddressPools = []string{"lan"}
	ready := func(p Plan) []string {
		var out []string
		for _, problem := range p.Ready(nil) {
			out = append(out, problem.Name+" "+string(problem.Reason))
		}
		return out
	}
	was, err := Of(in, controllertest.Birth)
	if err != nil {
		t.Fatal(err)
	}
	if got := ready(was); !slices.Equal(got, []string{"lan Accepted", "lan Accepted"}) {
		t.Errorf("before, they are %q", got)
	}
	after := in
	after.Objects.Pools = nil
	is, err := was.Then(after)
	if err != nil {
		t.Fatal(err)
	}
	if got := ready(is); !slices.Equal(got, []string{"lan PoolNotFound"}) {
		t.Errorf("without the pool they are %q", got)
	}
}
