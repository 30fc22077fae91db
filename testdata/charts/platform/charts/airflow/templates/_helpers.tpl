{{/*
Labels of everything that the chart creates.
*/}}
{{- define "airflow.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
What a Job is, but for its metadata. Takes a dict: context (the chart's own
scope), task (the last part of its name), restartPolicy, serviceAccount, ttl.
*/}}
{{- define "airflow.jobSpec" -}}
{{- $global := .context.Values.global -}}
{{- $code := has .task $global.failing | ternary 1 0 -}}
backoffLimit: {{ $global.backoffLimit }}
template:
  metadata:
    labels:
      {{- include "airflow.labels" .context | nindent 6 }}
    annotations:
      parallel-hooks.test/duration: {{ $global.duration | quote }}
      parallel-hooks.test/exit-code: {{ $code | quote }}
  spec:
    restartPolicy: {{ .restartPolicy }}
    serviceAccountName: {{ .serviceAccount }}
    containers:
      - name: {{ .task }}
        image: busybox:1.37
        command: ["sh", "-c", "sleep {{ $global.duration }}; exit {{ $code }}"]
ttlSecondsAfterFinished: {{ $global.ttlSecondsAfterFinished | default .ttl }}
{{- end -}}

{{/*
Prefix of all names.
*/}}
{{- define "airflow.fullname" -}}
{{ .Release.Name }}
{{- end -}}

{{/*
Metadata of a hook but its name. Takes a dict: context (the chart's own scope),
events and weight.
*/}}
{{- define "airflow.hook" -}}
labels:
  {{- include "airflow.labels" .context | nindent 2 }}
annotations:
  helm.sh/hook: {{ .events }}
  helm.sh/hook-weight: {{ .weight | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
