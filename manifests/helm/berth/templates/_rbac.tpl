{{- /* The ServiceAccount, the roles and their bindings of a component. */ -}}
{{- define "berth.rbac" -}}
{{- $name := printf "berth-%s" .component -}}
{{- $here := dict "root" .root "component" .component "name" $name -}}
{{- $everywhere := merge (dict "clusterwide" true) $here -}}
apiVersion: v1
kind: ServiceAccount
{{ include "berth.metadata" (merge (dict "annotations" .annotations) $here) }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
{{ include "berth.metadata" $everywhere }}
rules:
{{ include (printf "berth.rules.ClusterRole.%s" $name) .root }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
{{ include "berth.metadata" $here }}
rules:
{{ include (printf "berth.rules.Role.%s" $name) .root }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
{{ include "berth.metadata" $everywhere }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
- kind: ServiceAccount
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
{{ include "berth.metadata" $here }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ $name }}
subjects:
- kind: ServiceAccount
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
{{- end }}
