{{/*
Labels of everything that the chart creates.
*/}}
{{- define "random.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
The string. All templates of a chart share one map of values within a rendering:
whichever of them asks first makes the string, the others find it.
*/}}
{{- define "random.seed" -}}
{{- if not .Values.seed -}}
{{- $_ := set .Values "seed" (randAlphaNum 16) -}}
{{- end -}}
{{- .Values.seed -}}
{{- end -}}
