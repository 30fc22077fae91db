{{/*
Labels of everything that the chart creates.
*/}}
{{- define "setup.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
Metadata that all objects which the Job needs have in common.
*/}}
{{- define "setup.metadata" -}}
labels:
  {{- include "setup.labels" . | nindent 2 }}
annotations:
  helm.sh/hook: {{ .Values.event }}
  helm.sh/hook-weight: {{ .Values.weight | quote }}
  helm.sh/hook-delete-policy: {{ .Values.setupDeletePolicy }}
{{- end -}}

{{/*
Volumes have no namespace: without it two releases would share the name.
*/}}
{{- define "setup.volume" -}}
z-{{ .Release.Namespace }}-{{ .Release.Name }}-workspace
{{- end -}}
