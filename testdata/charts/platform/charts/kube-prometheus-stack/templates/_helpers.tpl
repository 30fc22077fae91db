{{/*
Labels of everything that the chart creates.
*/}}
{{- define "kube-prometheus-stack.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
What a Job is, but for its metadata. Takes a dict: context (the chart's own
scope), task (the last part of its name), restartPolicy, serviceAccount, ttl.
*/}}
{{- define "kube-prometheus-stack.jobSpec" -}}
{{- $global := .context.Values.global -}}
{{- $code := has .task $global.failing | ternary 1 0 -}}
backoffLimit: {{ $global.backoffLimit }}
template:
  metadata:
    labels:
      {{- include "kube-prometheus-stack.labels" .context | nindent 6 }}
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
Prefix of all names, which is short as others are made of it.
*/}}
{{- define "kube-prometheus-stack.fullname" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 26 | trimSuffix "-" -}}
{{- end -}}

{{/*
Metadata of a hook but its name. Takes a dict: context (the chart's own scope),
events, and optionally weight.
*/}}
{{- define "kube-prometheus-stack.hook" -}}
labels:
  {{- include "kube-prometheus-stack.labels" .context | nindent 2 }}
annotations:
  helm.sh/hook: {{ .events }}
  {{- with .weight }}
  helm.sh/hook-weight: {{ . | quote }}
  {{- end }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
