package bench

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A Set is a number of dual-stack Services of one kind. They have the label set with its name.
type Set struct {
	Name   string
	Count  int
	App    string // whose pods they lead to
	Policy corev1.ServiceExternalTrafficPolicy
}

// Service is the i-th of the set.
func (s Set) Service(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Name:   fmt.Sprintf("%s%04d", s.Name, i),
			Labels: map[string]string{"set": s.Name},
		},
		Spec: corev1.ServiceSpec{
			Type:                          corev1.ServiceTypeLoadBalancer,
			Selector:                      map[string]string{"app": s.App},
			IPFamilyPolicy:                new(corev1.IPFamilyPolicyRequireDualStack),
			ExternalTrafficPolicy:         s.Policy,
			AllocateLoadBalancerNodePorts: new(false),
			Ports: []corev1.ServicePort{{
				Port:       EchoPort,
				Protocol:   corev1.ProtocolUDP,
				TargetPort: intstr.FromInt32(8080),
			}},
		},
	}
}

// MakeServices creates the Services of a set that are not there, waits until they have all their addresses,
// and returns these sorted, IPv4 first.
func (b *Bed) MakeServices(ctx context.Context, set Set) ([]netip.Addr, error) {
	names := make(chan int)
	var workers sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for range 8 {
		workers.Go(func() {
			for i := range names {
				_, err := b.API.CoreV1().Services("default").Create(ctx, set.Service(i),
					metav1.CreateOptions{})
				if err != nil && !apierrors.IsAlreadyExists(err) {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for i := range set.Count {
		names <- i
	}
	close(names)
	workers.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return b.waitAddresses(ctx, set)
}

func (b *Bed) waitAddresses(ctx context.Context, set Set) ([]netip.Addr, error) {
	var addresses []netip.Addr
	err := Poll(ctx, 2*time.Minute, "the Services of set "+set.Name+" have addresses", func() error {
		list, err := b.API.CoreV1().Services("default").List(ctx, metav1.ListOptions{
			LabelSelector: "set=" + set.Name,
		})
		if err != nil {
			return err
		}
		addresses = nil
		for _, s := range list.Items {
			for _, i := range s.Status.LoadBalancer.Ingress {
				addresses = append(addresses, netip.MustParseAddr(i.IP))
			}
		}
		if len(addresses) != 2*set.Count {
			return fmt.Errorf("%d of %d", len(addresses), 2*set.Count)
		}
		return nil
	})
	slices.SortFunc(addresses, netip.Addr.Compare)
	return addresses, err
}
