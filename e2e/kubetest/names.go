package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/miekg/dns"
	v1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// clusterDomain ends the names of all Services.
const clusterDomain = "svc.cluster.local."

const (
	nameTTL = 1 // seconds
	// lookupLimit is how long the API server may take to tell of one Service.
	lookupLimit = 2 * time.Second
)

// names answers what the pods of the tests ask a cluster's DNS: which addresses a Service has in the cluster.
// It asks the API server each time, so that an answer is never old.
type names struct {
	service func(ctx context.Context, namespace, name string) (*v1.Service, error)
}

// serveNames answers at an address of this host until it is told to end.
func serveNames(address, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	handler := names{func(ctx context.Context, namespace, name string) (*v1.Service, error) {
		return client.CoreV1().Services(namespace).Get(ctx, name, metav1.GetOptions{})
	}}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var servers []*dns.Server
	ended := make(chan error, 2)
	for _, transport := range []string{"udp", "tcp"} {
		server := &dns.Server{
			Addr:    net.JoinHostPort(address, "53"),
			Net:     transport,
			Handler: handler,
		}
		servers = append(servers, server)
		go func() { ended <- server.ListenAndServe() }()
	}
	select {
	case err = <-ended:
		err = fmt.Errorf("answer names at %s: %w", address, err)
	case <-ctx.Done():
	}
	for _, server := range servers {
		_ = server.Shutdown() // one that has ended by itself says so
	}
	return err
}

// ServeDNS answers one query.
func (n names) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	_ = w.WriteMsg(n.answer(query)) // who asked asks again
}

// answer makes the answer to a query. What is no name of a Service does not exist.
func (n names) answer(query *dns.Msg) *dns.Msg {
	answer := new(dns.Msg).SetReply(query)
	answer.Authoritative = true
	if len(query.Question) != 1 {
		return answer.SetRcode(query, dns.RcodeFormatError)
	}
	question := query.Question[0]
	of, isService := strings.CutSuffix(strings.ToLower(question.Name), "."+clusterDomain)
	name, namespace, two := strings.Cut(of, ".")
	if !isService || !two || strings.Contains(namespace, ".") {
		return answer.SetRcode(query, dns.RcodeNameError)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupLimit)
	defer cancel()
	service, err := n.service(ctx, namespace, name)
	if apierrors.IsNotFound(err) {
		return answer.SetRcode(query, dns.RcodeNameError)
	}
	if err != nil {
		return answer.SetRcode(query, dns.RcodeServerFailure)
	}
	for _, text := range service.Spec.ClusterIPs {
		if record := record(question, text); record != nil {
			answer.Answer = append(answer.Answer, record)
		}
	}
	return answer
}

// record returns the record of an address if it answers the question, else nil. A headless Service has
// "None" for an address.
func record(question dns.Question, text string) dns.RR {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return nil
	}
	header := dns.RR_Header{
		Name:   question.Name,
		Rrtype: question.Qtype,
		Class:  dns.ClassINET,
		Ttl:    nameTTL,
	}
	switch {
	case question.Qtype == dns.TypeA && addr.Is4():
		return &dns.A{Hdr: header, A: addr.AsSlice()}
	case question.Qtype == dns.TypeAAAA && addr.Is6():
		return &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()}
	}
	return nil
}
