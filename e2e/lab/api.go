package lab

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// get asks a server inside the lab, from the namespace of the host, as administrator. The answer is decoded
// into v unless v is nil. Any status but 200 is an error.
func (h *Host) get(ctx context.Context, url string, v any) error {
	ca, err := os.ReadFile(h.lab.path("pki", "ca.crt"))
	if err != nil {
		return err
	}
	token, err := os.ReadFile(adminTokenFile(h.lab))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	// Questions are few and servers come and go: no connection is kept.
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{RootCAs: roots},
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return h.Dial(ctx, network, address)
		},
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if strings.HasPrefix(url, h.lab.options.Families.apiURL()) {
		request.Header.Set("Authorization", "Bearer "+string(token))
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close() //nolint:errcheck // it was only read from
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s: %s", url, response.Status, bytes.TrimSpace(body))
	}
	if v == nil {
		return nil
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("GET %s: %w", url, err)
	}
	return nil
}

// Get asks the API server as administrator for what is at a path. The answer is decoded into v unless v is
// nil.
func (a *API) Get(ctx context.Context, path string, v any) error {
	return a.lab.Host(HostControlPlane).get(ctx, a.lab.options.Families.apiURL()+path, v)
}

// checkNodeReady returns nil if Kubernetes calls the node Ready and has heard from its kubelet after since.
func (a *API) checkNodeReady(ctx context.Context, node string, since time.Time) error {
	var lease struct {
		Spec struct {
			RenewTime time.Time `json:"renewTime"`
		} `json:"spec"`
	}
	path := "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/" + node
	if err := a.Get(ctx, path, &lease); err != nil {
		return err
	}
	if lease.Spec.RenewTime.Before(since) {
		return fmt.Errorf("the last sign of its kubelet is of %s",
			lease.Spec.RenewTime.Local().Format(time.TimeOnly))
	}
	conditions, err := a.nodeConditions(ctx, node)
	if err != nil {
		return err
	}
	return conditions.ready()
}

// nodeConditions is the part of a Node's status that the lab reads.
type nodeConditions []struct {
	Type    string `json:"type"`
	Status  string `json:"status"`
	Message string `json:"message"`
}

func (a *API) nodeConditions(ctx context.Context, node string) (nodeConditions, error) {
	var object struct {
		Status struct {
			Conditions nodeConditions `json:"conditions"`
		} `json:"status"`
	}
	err := a.Get(ctx, "/api/v1/nodes/"+node, &object)
	return object.Status.Conditions, err
}

// ready returns nil if the condition Ready is True, else an error that says why it is not.
func (c nodeConditions) ready() error {
	for _, condition := range c {
		if condition.Type == "Ready" {
			if condition.Status == "True" {
				return nil
			}
			return fmt.Errorf("it is not Ready: %s", condition.Message)
		}
	}
	return errors.New("it has no condition Ready yet")
}

// checkProxy returns nil once the node's kube-proxy has written its rules for both address families. That it
// answers alone says nothing: it calls itself healthy while it starts.
func (n *Node) checkProxy(ctx context.Context) error {
	var health struct {
		Status map[string]struct {
			Healthy bool `json:"healthy"`
		} `json:"status"`
	}
	if err := n.get(ctx, "http://127.0.0.1:10256/healthz", &health); err != nil {
		return err
	}
	for _, family := range []string{"IPv4", "IPv6"} {
		if !health.Status[family].Healthy {
			return fmt.Errorf("no rules for %s yet", family)
		}
	}
	return nil
}

// checkDefaultServiceAccount returns nil once pods can be created in the namespace default.
func (a *API) checkDefaultServiceAccount(ctx context.Context) error {
	return a.Get(ctx, "/api/v1/namespaces/default/serviceaccounts/default", nil)
}
