package lab

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
)

// A user is known to the API server by a bearer token. Its name is also that of its kubeconfig.
type user struct {
	name     string // as the lab calls it
	username string // as Kubernetes does
	group    string // one group, or none
}

const adminUser = "admin"

// users lists who may ask the API server for anything: the components, the kubelets and a person.
func users(nodes int) []user {
	list := []user{
		{adminUser, "admin", "system:masters"},
		{ControllerManager, "system:kube-controller-manager", "system:masters"},
		{Scheduler, "system:kube-scheduler", ""},
		{"kube-proxy", "system:kube-proxy", ""},
	}
	for i := range nodes {
		name := NodeName(i + 1)
		list = append(list, user{name, "system:node:" + name, "system:nodes"})
	}
	return list
}

// makeUsers writes the API server's file of tokens and a kubeconfig for each user.
func makeUsers(l *Lab) error {
	ca, err := os.ReadFile(l.path("pki", "ca.crt"))
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.path("kubeconfig"), 0o700); err != nil {
		return err
	}
	var tokens strings.Builder
	for _, u := range users(l.options.Nodes) {
		token := rand.Text()
		// The fields of the file: token, user name, user id, groups.
		fmt.Fprintf(&tokens, "%s,%s,%s,%q\n", token, u.username, u.name, u.group)
		err := os.WriteFile(l.kubeconfigOf(u.name),
			kubeconfig(l.options.Families.apiURL(), ca, u.name, token), 0o600)
		if err != nil {
			return err
		}
		if u.name == adminUser {
			if err := os.WriteFile(adminTokenFile(l), []byte(token), 0o600); err != nil {
				return err
			}
		}
	}
	return os.WriteFile(l.path("pki", "tokens.csv"), []byte(tokens.String()), 0o600)
}

// Kubeconfig is the path of the administrator's kubeconfig. The API server it names can be reached only from
// inside the lab: see Dial, Kubectl and Host.Command.
func (a *API) Kubeconfig() string { return a.lab.kubeconfigOf(adminUser) }

func (l *Lab) kubeconfigOf(user string) string {
	return l.path("kubeconfig", user)
}

func adminTokenFile(l *Lab) string { return l.path("pki", "admin.token") }

func kubeconfig(server string, ca []byte, user, token string) []byte {
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters:
- name: lab
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: %s
  user:
    token: %s
contexts:
- name: lab
  context:
    cluster: lab
    user: %s
current-context: lab
`, server, base64.StdEncoding.EncodeToString(ca), user, token, user)
}
