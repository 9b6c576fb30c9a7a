package cluster_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/internal/cluster"
	"github.com/berth-lb/berth/internal/cluster/clustertest"
	"github.com/berth-lb/berth/pkg/announcement"
	"github.com/berth-lb/berth/pkg/config"
)

// TestASnapshotIsReadLikeACache: whatever objects there are, a Reader of a snapshot
// returns what a Reader of an API server with the same objects returns.
func TestASnapshotIsReadLikeACache(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 20 {
		var objects []client.Object
		for n := range random.IntN(4) {
			objects = append(objects, clustertest.Node(fmt.Sprintf("node%d", n+1), func(n *corev1.Node) {
				n.Spec.Unschedulable = random.IntN(2) == 0
				n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
			}))
		}
		for n := range random.IntN(6) {
			both := clustertest.Service(fmt.Sprintf("web%d", n))
			service := both[0].(*corev1.Service)
			service.Status.LoadBalancer.Ingress[0].IP = fmt.Sprintf("192.0.2.%d", 10+random.IntN(3))
			if random.IntN(4) == 0 {
				service.Spec.LoadBalancerClass = new("others")
			}
			objects = append(objects, both[:1+random.IntN(2)]...)
		}
		if random.IntN(2) == 0 {
			objects = append(objects, clustertest.Pool())
		}
		api := cluster.NewReader(clustertest.New(t, objects...), "", clustertest.Namespace, nil)
		snapshot := cluster.NewReader(cluster.NewSnapshot("", objects...), "", clustertest.Namespace, nil)

		same := func(what string, read func(*cluster.Reader) (any, error)) {
			t.Helper()
			want, wantErr := read(api)
			got, err := read(snapshot)
			if wantErr != nil || err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("round %d: %s are %+v (%v), want %+v (%v)", round, what, got, err, want, wantErr)
			}
		}
		same("addresses", func(r *cluster.Reader) (any, error) { return r.Addresses(t.Context()) })
		same("nodes", func(r *cluster.Reader) (any, error) { return r.Nodes(t.Context()) })
		for last := 10; last < 13; last++ {
			addr := netip.AddrFrom4([4]byte{192, 0, 2, byte(last)})
			same("services", func(r *cluster.Reader) (any, error) { return r.Services(t.Context(), addr) })
		}
		same("pools", func(r *cluster.Reader) (any, error) {
			objects, err := r.ConfigObjects(t.Context())
			parsed, _ := config.Parse(objects, config.Config{}, time.Unix(0, 0))
			return parsed.PoolOf(clustertest.Address) != nil, err
		})
		same("addresses of node1", func(r *cluster.Reader) (any, error) {
			return r.NodeAddresses(t.Context(), "node1"), nil
		})
	}
}

// TestASnapshotSaysWhatItCannotDo, where the empty answer would mean that there is nothing.
func TestASnapshotSaysWhatItCannotDo(t *testing.T) {
	s := cluster.NewSnapshot("", clustertest.Service("web")...)
	var services corev1.ServiceList
	for _, option := range []client.ListOption{
		client.MatchingFields{"spec.type": "x"},
		client.MatchingLabels{"a": "b"},
	} {
		if err := s.List(t.Context(), &services, option); err == nil {
			t.Errorf("a snapshot lists by %v", option)
		}
	}
	err := s.Get(t.Context(), types.NamespacedName{Name: "node1"}, &corev1.Node{})
	if !apierrors.IsNotFound(err) {
		t.Errorf("an object that is not there is read: %v", err)
	}
}

// TestAddressesOfASlice are those of its Service.
func TestAddressesOfASlice(t *testing.T) {
	objects := clustertest.Service("web")
	slice := objects[1].(*discoveryv1.EndpointSlice)
	for story, test := range map[string]struct {
		class   string
		objects []client.Object
		want    int
	}{
		"its Service has one":                  {"", objects, 1},
		"its Service is another's":             {"berth.io/other", objects, 0},
		"its Service is not a load balancer's": {"", objects[1:], 0},
	} {
		r := cluster.NewReader(cluster.NewSnapshot(test.class, test.objects...), test.class, "", nil)
		if got := r.AddressesOf(t.Context(), slice); len(got) != test.want {
			t.Errorf("%s: %v", story, got)
		}
	}
}

func TestConfigInForce(t *testing.T) {
	c := cluster.NewConfig()
	if _, revision := c.Current(); revision != 0 || c.Known().IsSet() {
		t.Fatal("a configuration is known that nobody has read")
	}
	c.Set(config.Objects{}, time.Unix(0, 0))
	first, revision := c.Current()
	if revision == 0 || !c.Known().IsSet() || first.PoolOf(clustertest.Address) != nil {
		t.Errorf("without objects revision %d is in force", revision)
	}
	objects := config.Objects{}
	objects.Pools = append(objects.Pools, *clustertest.Pool())
	c.Set(objects, time.Unix(0, 0))
	if second, after := c.Current(); after <= revision || second.PoolOf(clustertest.Address) == nil {
		t.Errorf("revision %d follows %d without the pool", after, revision)
	}
}

// TestNodesAreReadOnce: the same nodes are the same slice, by which others see that nothing has changed.
func TestNodesAreReadOnce(t *testing.T) {
	api := clustertest.New(t, clustertest.Node("node2"), clustertest.Node("node1"))
	r := cluster.NewReader(api, "", clustertest.Namespace, nil)
	read := func() []announcement.Node {
		t.Helper()
		nodes, err := r.Nodes(t.Context())
		if err != nil || len(nodes) == 0 || nodes[0].Name != "node1" {
			t.Fatalf("%+v, %v", nodes, err)
		}
		return nodes
	}
	first := read()
	if again := read(); &again[0] != &first[0] {
		t.Error("nothing has changed, and the nodes are others")
	}

	cordoned := clustertest.Node("node1")
	if err := api.Get(t.Context(), client.ObjectKeyFromObject(cordoned), cordoned); err != nil {
		t.Fatal(err)
	}
	cordoned.Spec.Unschedulable = true
	if err := api.Update(t.Context(), cordoned); err != nil {
		t.Fatal(err)
	}
	if now := read(); !now[0].Cordoned || first[0].Cordoned {
		t.Errorf("after the cordon: %+v, before it: %+v", now, first)
	}
	if err := api.Delete(t.Context(), clustertest.Node("node2")); err != nil {
		t.Fatal(err)
	}
	if now := read(); len(now) != 1 {
		t.Errorf("after one is gone: %+v", now)
	}
}
