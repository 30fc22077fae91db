{{/*
Labels of everything that the chart creates.
*/}}
{{- define "argo-cd.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
What a Job is, but for its metadata. Takes a dict: context (the chart's own
scope), task (the last part of its name), restartPolicy, serviceAccount, ttl.
*/}}
{{- define "argo-cd.jobSpec" -}}
{{- $global := .context.Values.global -}}
{{- $code := has .task $global.failing | ternary 1 0 -}}
backoffLimit: {{ $global.backoffLimit }}
template:
  metadata:
    labels:
      {{- include "argo-cd.labels" .context | nindent 6 }}
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
{{- define "argo-cd.fullname" -}}
{{- printf "%s-%s" .Release.Name "argocd" | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/*
Metadata of a hook but its name. Takes a dict: context (the chart's own scope)
and events.
*/}}
{{- define "argo-cd.hook" -}}
labels:
  {{- include "argo-cd.labels" .context | nindent 2 }}
annotations:
  helm.sh/hook: {{ .events }}
  helm.sh/hook-delete-policy: before-hook-creation
{{- end -}}
