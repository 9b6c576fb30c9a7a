package clitest

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// special answers requests that are not for objects of kinds that it knows, and reports
// whether this was one.
func (s *Server) special(w http.ResponseWriter, r *http.Request) bool {
	if answer, known := s.Raw[r.URL.Path]; known {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(answer))
		return true
	}
	if strings.HasSuffix(r.URL.Path, "/selfsubjectaccessreviews") {
		s.review(w, r)
		return true
	}
	if strings.HasSuffix(r.URL.Path, "/log") || strings.Contains(r.URL.Path, "/proxy/") {
		s.refusePod(w, r)
		return true
	}
	return false
}

// refusePod refuses what a pod has to say. What asks for metrics is not let through by the
// pod: the API server does not pass on who asks.
func (s *Server) refusePod(w http.ResponseWriter, r *http.Request) {
	pods := schema.GroupResource{Resource: "pods"}
	for _, part := range []string{"log", "proxy"} {
		if strings.Contains(r.URL.Path, "/"+part) && s.Forbidden["pods/"+part] {
			refuse(w, apierrors.NewForbidden(pods, "", errors.New("user \"reader\" cannot get pods/"+part)))
			return
		}
	}
	if strings.HasSuffix(r.URL.Path, "/metrics") {
		http.Error(w, "a bearer token is required", http.StatusUnauthorized)
		return
	}
	http.NotFound(w, r)
}

// review says whether the user has a right: all but those denied.
func (s *Server) review(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SelfSubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Spec.ResourceAttributes == nil {
		http.Error(w, "this is no review", http.StatusBadRequest)
		return
	}
	asked := review.Spec.ResourceAttributes
	review.Status.Allowed = !s.Denied[asked.Verb+" "+asked.Resource]
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusCreated)
	_ = json.NewEncoder(w).Encode(review)
}
