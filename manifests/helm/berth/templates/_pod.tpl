{{- /* What the pods of both programs have in common. */ -}}
{{- define "berth.podMetadata" -}}
metadata:
  labels:
    {{- $labels := merge (include "berth.selector" .component | fromYaml) .values.podLabels .root.Values.commonLabels }}
    {{- toYaml $labels | nindent 4 }}
  {{- with .values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}

{{- /* Where pods run, and by which right they start. */ -}}
{{- define "berth.podPlace" -}}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .runtimeClassName }}
runtimeClassName: {{ . }}
{{- end }}
{{- with .nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations:
{{ toYaml . }}
{{- end }}
{{- with .affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .topologySpreadConstraints }}
topologySpreadConstraints:
{{ toYaml . }}
{{- end }}
terminationGracePeriodSeconds: {{ .terminationGracePeriodSeconds }}
{{- end }}

{{- /* What may be added to a container. */ -}}
{{- define "berth.containerExtras" -}}
{{- with .extraEnvFrom }}
envFrom:
{{ toYaml . }}
{{- end }}
{{- with .extraVolumeMounts }}
volumeMounts:
{{ toYaml . }}
{{- end }}
{{- with .resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* What the settings make of a container's environment: root, component, values. */ -}}
{{- define "berth.settingsEnvironment" -}}
{{- with include "berth.goMemoryLimit" .values.resources }}
- name: GOMEMLIMIT
  value: {{ . }}
{{- end }}
{{- include "berth.environment" (include "berth.settings" (dict "root" .root "own" .values.settings) | fromYaml) }}
{{- with .values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}
