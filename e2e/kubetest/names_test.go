package main

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/miekg/dns"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// TestAnswer: what pods learn of Services by name, and what they are told of everything else.
func TestAnswer(t *testing.T) {
	cluster := names{func(_ context.Context, namespace, name string) (*v1.Service, error) {
		service := &v1.Service{}
		switch namespace + "/" + name {
		case "shop/web":
			service.Spec.ClusterIPs = []string{"10.96.0.7", "fd96::7"}
		case "shop/headless":
			service.Spec.ClusterIPs = []string{v1.ClusterIPNone}
		case "shop/slow":
			return nil, errors.New("too slow")
		default:
			return nil, apierrors.NewNotFound(schema.GroupResource{Resource: "services"}, name)
		}
		return service, nil
	}}
	for _, test := range []struct {
		story, name string
		kind        uint16
		rcode       int
		want        string
	}{
		{"IPv4", "web.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, "10.96.0.7"},
		{"IPv6", "Web.shop.svc.cluster.local.", dns.TypeAAAA, dns.RcodeSuccess, "fd96::7"},
		{"neither", "web.shop.svc.cluster.local.", dns.TypeTXT, dns.RcodeSuccess, ""},
		{"headless", "headless.shop.svc.cluster.local.", dns.TypeA, dns.RcodeSuccess, ""},
		{"no such Service", "wb.shop.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"the API server fails", "slow.shop.svc.cluster.local.", dns.TypeA, dns.RcodeServerFailure, ""},
		{"as the search list has it", "web.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"a pod", "a.web.shop.svc.cluster.local.", dns.TypeA, dns.RcodeNameError, ""},
		{"elsewhere", "example.com.", dns.TypeA, dns.RcodeNameError, ""},
	} {
		t.Run(test.story, func(t *testing.T) {
			got := cluster.answer(new(dns.Msg).SetQuestion(test.name, test.kind))
			if got.Rcode != test.rcode {
				t.Errorf("code %s, want %s", dns.RcodeToString[got.Rcode], dns.RcodeToString[test.rcode])
			}
			text := ""
			for _, record := range got.Answer {
				switch record := record.(type) {
				case *dns.A:
					text += record.A.String()
				case *dns.AAAA:
					text += record.AAAA.String()
				default:
					text += fmt.Sprint(record)
				}
			}
			if text != test.want {
				t.Errorf("got %q, want %q", text, test.want)
			}
		})
	}
}
