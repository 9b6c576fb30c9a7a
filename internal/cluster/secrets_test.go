package cluster

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/berth-lb/berth/api/v1beta1"
	"github.com/berth-lb/berth/pkg/config"
)

// TestSecretsOfAnotherType are said to be of another type, and not to be missing.
func TestSecretsOfAnotherType(t *testing.T) {
	tor := &v1beta1.BGPPeer{
		ObjectMeta: metav1.ObjectMeta{Name: "tor"},
		Spec: v1beta1.BGPPeerSpec{
			MyASN:          64512,
			PeerASN:        64513,
			PeerAddress:    "192.0.2.254",
			PasswordSecret: &v1beta1.SecretReference{Name: "tor"},
		},
	}
	right := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "berth-system", Name: "tor"},
		Type:       corev1.SecretTypeBasicAuth,
		Data:       map[string][]byte{"password": []byte("secret")},
	}
	others := NewOtherSecrets()
	watched := others.handler()
	named := func(name string) *metav1.PartialObjectMetadata {
		o := secretNames()
		o.Name = name
		return o
	}
	objects := []client.Object{tor}
	problem := func() string {
		reader := NewReader(NewSnapshot("", objects...), "", "berth-system", others)
		read, err := reader.ConfigObjects(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		c, _ := config.Parse(read, config.Config{}, time.Unix(0, 0))
		peers := c.PeersOn(config.Node{Name: "node1"})
		if len(peers) != 1 {
			return "the node has no peer"
		}
		if peers[0].Err != nil {
			return peers[0].Err.Error()
		}
		return peers[0].Problem
	}
	for _, step := range []struct {
		story string
		do    func()
		says  string
	}{
		{"no Secret", func() {}, "is not there"},
		{"one of another name", func() { watched.OnAdd(named("other"), false) }, "is not there"},
		{"one of another type", func() {
			watched.OnAdd(named("tor"), false)
		}, "Secret tor is not of type kubernetes.io/basic-auth"},
		{"it is deleted", func() { watched.OnDelete(named("tor")) }, "is not there"},
		{"there again, and deleted while nobody watched", func() {
			watched.OnAdd(named("tor"), false)
			watched.OnDelete(cache.DeletedFinalStateUnknown{Obj: named("tor")})
		}, "is not there"},
		{"of the right type at last", func() {
			watched.OnAdd(named("tor"), false) // what is watched lags behind
			objects = append(objects, right)
		}, ""},
	} {
		step.do()
		if got := problem(); step.says == "" && got != "" || !strings.Contains(got, step.says) {
			t.Errorf("%s: the problem is %q, want %q in it", step.story, got, step.says)
		}
	}
}

func TestOnlyNamesOfOtherSecretsAreKept(t *testing.T) {
	o := secretNames()
	o.Name = "tor"
	o.Annotations = map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "secret"}
	o.Labels = map[string]string{"a": "b"}
	out, err := onlyName(o)
	got, ok := out.(*metav1.PartialObjectMetadata)
	if err != nil || !ok || got.Name != "tor" || got.Annotations != nil || got.Labels != nil ||
		got.Kind != "Secret" {
		t.Errorf("got %+v, %v", out, err)
	}
}
