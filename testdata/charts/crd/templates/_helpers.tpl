{{/*
Labels of everything that the chart creates.
*/}}
{{- define "crd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "crd.group" -}}
{{ .Values.group | default (printf "%s.example.com" .Release.Namespace) }}
{{- end -}}
