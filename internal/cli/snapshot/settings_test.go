package snapshot

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTheClassIsReadWhereItStands: in a flag, the environment or the settings file, in this
// order; where it cannot be read, that is said.
func TestTheClassIsReadWhereItStands(t *testing.T) {
	settings := corev1.ConfigMap{
		ObjectMeta: metav1.ObjectMeta{Name: "settings"},
		Data: map[string]string{
			"BERTH_LOAD_BALANCER_CLASS": "by.io/from",
			"class":                     "by.io/key",
			"file.yaml":                 "load-balancer-class: by.io/file\n",
		},
	}
	mount := func(c *corev1.Container, spec *corev1.PodSpec) {
		c.VolumeMounts = []corev1.VolumeMount{{Name: "settings", MountPath: "/etc/berth"}}
		spec.Volumes = []corev1.Volume{{Name: "settings", VolumeSource: corev1.VolumeSource{
			ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
			},
		}}}
	}
	key := &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
		Key:                  "class",
	}}
	const variable = "BERTH_LOAD_BALANCER_CLASS"
	for story, test := range map[string]struct {
		change  func(*corev1.Container, *corev1.PodSpec)
		read    bool // the ConfigMap could be
		want    string
		unknown bool
	}{
		"nowhere": {func(*corev1.Container, *corev1.PodSpec) {}, true, "", false},
		"a flag": {func(c *corev1.Container, _ *corev1.PodSpec) {
			c.Args = []string{"--load-balancer-class=by.io/flag"}
			c.Env = []corev1.EnvVar{{Name: variable, Value: "by.io/variable"}}
		}, true, "by.io/flag", false},
		"a flag in two words": {func(c *corev1.Container, _ *corev1.PodSpec) {
			c.Args = []string{"--load-balancer-class", "by.io/flag"}
		}, true, "by.io/flag", false},
		"a variable": {func(c *corev1.Container, spec *corev1.PodSpec) {
			mount(c, spec)
			c.Args = []string{"--config=/etc/berth/file.yaml"}
			c.Env = []corev1.EnvVar{{Name: variable, Value: "by.io/variable"}}
		}, true, "by.io/variable", false},
		"a variable from a ConfigMap": {func(c *corev1.Container, _ *corev1.PodSpec) {
			c.Env = []corev1.EnvVar{{Name: variable, ValueFrom: key}}
		}, true, "by.io/key", false},
		"a ConfigMap that may not be read": {func(c *corev1.Container, _ *corev1.PodSpec) {
			c.Env = []corev1.EnvVar{{Name: variable, ValueFrom: key}}
		}, false, "", true},
		"a whole ConfigMap": {func(c *corev1.Container, _ *corev1.PodSpec) {
			c.EnvFrom = []corev1.EnvFromSource{{ConfigMapRef: &corev1.ConfigMapEnvSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "settings"},
			}}}
		}, true, "by.io/from", false},
		"the settings file": {func(c *corev1.Container, spec *corev1.PodSpec) {
			mount(c, spec)
			c.Args = []string{"--config=/etc/berth/file.yaml"}
		}, true, "by.io/file", false},
		"a settings file of the image": {func(c *corev1.Container, _ *corev1.PodSpec) {
			c.Args = []string{"--config=/file.yaml"}
		}, true, "", true},
	} {
		d := appsv1.Deployment{}
		d.Spec.Template.Labels = map[string]string{labelComponent: "controller"}
		d.Spec.Template.Spec.Containers = []corev1.Container{{Name: "controller"}}
		test.change(&d.Spec.Template.Spec.Containers[0], &d.Spec.Template.Spec)
		objects := Objects{Deployments: []appsv1.Deployment{d}}
		if test.read {
			objects.ConfigMaps = []corev1.ConfigMap{settings}
		}
		got := New(objects, Request{Kinds: []Kind{Deployments}}, time.Unix(0, 0)).Settings
		if got.Class != test.want || (got.ClassUnknown != "") != test.unknown {
			t.Errorf("%s: the class is %q (%s), want %q", story, got.Class, got.ClassUnknown, test.want)
		}
	}
}
