package kube

import (
	"context"
	"errors"
	"net/http"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	ktesting "k8s.io/client-go/testing"
)

func TestWhoMayReadMetrics(t *testing.T) {
	for _, test := range []struct {
		story         string
		authenticated bool
		allowed       bool
		fails         error
		want          int
	}{
		{"known and allowed", true, true, nil, http.StatusOK},
		{"known but not allowed", true, false, nil, http.StatusForbidden},
		{"not known", false, true, nil, http.StatusUnauthorized},
		{"the API server is away", true, true, errors.New("away"), http.StatusInternalServerError},
	} {
		t.Run(test.story, func(t *testing.T) {
			api := fake.NewClientset()
			api.PrependReactor("create", "tokenreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
				r := a.(ktesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
				if r.Spec.Token != "secret" {
					t.Errorf("token %q is reviewed", r.Spec.Token)
				}
				r.Status.Authenticated = test.authenticated
				r.Status.User.Username = "prometheus"
				return true, r, test.fails
			})
			api.PrependReactor("create", "subjectaccessreviews", func(a ktesting.Action) (bool, runtime.Object, error) {
				r := a.(ktesting.CreateAction).GetObject().(*authorizationv1.SubjectAccessReview)
				if r.Spec.User != "prometheus" || r.Spec.NonResourceAttributes.Path != "/metrics" {
					t.Errorf("access review of %+v", r.Spec)
				}
				r.Status.Allowed = test.allowed
				return true, r, nil
			})
			got, err := review(context.Background(), api, "secret", "/metrics")
			if got != test.want || (err != nil) != (test.fails != nil) {
				t.Errorf("got %d, %v; want %d", got, err, test.want)
			}
		})
	}
}
