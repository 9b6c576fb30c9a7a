package main

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/berth-lb/berth/api/v1beta1"
)

// TestSecretsOfAnotherType are said to be of another type, and not to be missing.
func TestSecretsOfAnotherType(t *testing.T) {
	w := routedWorld(t, node("node1"), peer("tor", func(s *v1beta1.BGPPeerSpec) { s.PasswordSecret = &v1beta1.SecretReference{Name: "tor"} }))
	w.view.others = newOtherSecrets()
	watched := w.view.others.handler()
	named := func(name string) *metav1.PartialObjectMetadata {
		o := secretNames()
		o.Name = name
		return o
	}
	problem := func() string {
		w.configure()
		w.planned()
		for _, s := range w.sessions.status().Sessions {
			return s.Problem
		}
		return ""
	}
	for _, step := range []struct {
		story string
		do    func()
		says  string
	}{
		{"no Secret", func() {}, "is not there"},
		{"one of another name", func() { watched.OnAdd(named("other"), false) }, "is not there"},
		{"one of another type", func() { watched.OnAdd(named("tor"), false) }, "Secret tor is not of type kubernetes.io/basic-auth"},
		{"it is deleted", func() { watched.OnDelete(named("tor")) }, "is not there"},
		{"there again, and deleted while nobody watched", func() {
			watched.OnAdd(named("tor"), false)
			watched.OnDelete(cache.DeletedFinalStateUnknown{Obj: named("tor")})
		}, "is not there"},
		{"of the right type at last", func() {
			watched.OnAdd(named("tor"), false) // what is watched lags behind
			if err := w.api.Create(t.Context(), &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "tor"},
				Type: corev1.SecretTypeBasicAuth, Data: map[string][]byte{"password": []byte("secret")}}); err != nil {
				t.Fatal(err)
			}
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
	o.Name, o.Annotations, o.Labels = "tor", map[string]string{"kubectl.kubernetes.io/last-applied-configuration": "secret"}, map[string]string{"a": "b"}
	out, err := onlyName(o)
	got, ok := out.(*metav1.PartialObjectMetadata)
	if err != nil || !ok || got.Name != "tor" || got.Annotations != nil || got.Labels != nil || got.Kind != "Secret" {
		t.Errorf("got %+v, %v", out, err)
	}
}
