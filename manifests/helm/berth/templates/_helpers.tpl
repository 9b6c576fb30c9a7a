{{- /* The labels of an object. The component is "" for what belongs to both programs. Selectors have the
first three and cannot be changed later. They do not depend on the release, because a cluster has one Berth:
so Helm can adopt what kubectl has installed, whatever the release is called. */ -}}
{{- define "berth.labels" -}}
{{ include "berth.selector" .component }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "berth.selector" -}}
app.kubernetes.io/name: berth
app.kubernetes.io/instance: berth
{{- with . }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{- /* The metadata of an object: root, component, name; clusterwide for one without a namespace; labels and
annotations in addition. */ -}}
{{- define "berth.metadata" -}}
metadata:
  name: {{ .name }}
  {{- if not .clusterwide }}
  namespace: {{ .root.Release.Namespace }}
  {{- end }}
  labels:
    {{- $labels := merge (dict) (.labels | default dict) (include "berth.labels" . | fromYaml) }}
    {{- toYaml $labels | nindent 4 }}
  {{- with merge (dict) (.annotations | default dict) .root.Values.commonAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- define "berth.image" -}}
{{- $image := .image -}}
{{- $registry := .root.Values.global.imageRegistry | default $image.registry -}}
{{- if $registry }}{{ $registry }}/{{ end }}{{ $image.repository }}
{{- if or $image.tag (not $image.digest) }}:{{ $image.tag | default .root.Chart.AppVersion }}{{ end }}
{{- if $image.digest }}@{{ $image.digest }}{{ end }}
{{- end }}

{{- define "berth.pullSecrets" -}}
{{- $all := concat .Values.global.imagePullSecrets .Values.imagePullSecrets }}
{{- if $all }}
imagePullSecrets:
{{- range $all }}
- name: {{ if kindIs "string" . }}{{ . }}{{ else }}{{ .name }}{{ end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* The settings of a program: those for both, those of its own, and the class. */ -}}
{{- define "berth.settings" -}}
{{- /* Not by merge, for which false and 0 are nothing. */ -}}
{{- $all := deepCopy (.root.Values.settings | default dict) -}}
{{- range $name, $value := .own }}{{ $_ := set $all $name $value }}{{ end -}}
{{- with .root.Values.loadBalancerClass }}{{ $_ := set $all "load-balancer-class" . }}{{ end -}}
{{- toYaml $all }}
{{- end }}

{{- /* Settings as environment variables, in the order of their names. */ -}}
{{- define "berth.environment" -}}
{{- range $name, $value := . }}
- name: BERTH_{{ $name | upper | replace "-" "_" }}
  value: {{ if kindIs "slice" $value }}{{ $value | join " " | quote }}{{ else }}{{ $value | toString | quote }}{{ end }}
{{- end }}
{{- end }}

{{- /* About 90 % of a memory limit: what is garbage is collected before the kernel ends the process. */ -}}
{{- define "berth.goMemoryLimit" -}}
{{- $limit := get (get (. | default dict) "limits" | default dict) "memory" | toString -}}
{{- if hasSuffix "Mi" $limit -}}
{{ div (mul (trimSuffix "Mi" $limit | int) 9) 10 }}MiB
{{- else if hasSuffix "Gi" $limit -}}
{{ div (mul (trimSuffix "Gi" $limit | int) 9216) 10 }}MiB
{{- end -}}
{{- end }}

{{- /* The port of an address such as :9740, and "" if the address is 0, which turns it off. */ -}}
{{- define "berth.port" -}}
{{- $address := . | toString -}}
{{- if ne $address "0" }}{{ regexFind "[0-9]+$" $address }}{{ end -}}
{{- end }}

{{- define "berth.metricsPort" -}}
{{- $all := include "berth.settings" . | fromYaml -}}
{{- include "berth.port" (ternary (get $all "metrics-bind-address") ":9740" (hasKey $all "metrics-bind-address")) -}}
{{- end }}

{{- define "berth.healthPort" -}}
{{- $all := include "berth.settings" . | fromYaml -}}
{{- include "berth.port" (ternary (get $all "health-bind-address") ":9741" (hasKey $all "health-bind-address")) -}}
{{- end }}

{{- /* Whether the speakers announce by layer 2, as text: empty for no. */ -}}
{{- define "berth.layer2" -}}
{{- if ne (get .Values.speaker.settings "layer2" | toString) "false" }}yes{{ end -}}
{{- end }}

{{- /* The same of BGP. */ -}}
{{- define "berth.bgp" -}}
{{- if ne (get .Values.speaker.settings "bgp" | toString) "false" }}yes{{ end -}}
{{- end }}

{{- define "berth.memberSecret" -}}
{{- get .Values.settings "member-secret" | default "berth-memberlist" -}}
{{- end }}
