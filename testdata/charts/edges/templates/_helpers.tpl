{{/*
Labels of everything that the chart creates.
*/}}
{{- define "edges.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
A Job that runs as a hook. Takes a dict: root, name, events, and optionally
namespace, component, configMap.
*/}}
{{- define "edges.job" -}}
{{- $failing := has .name .root.Values.failing -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ . }}
  {{- end }}
  labels:
    {{- include "edges.labels" .root | nindent 4 }}
    {{- with .component }}
    app.kubernetes.io/component: {{ . }}
    {{- end }}
  annotations:
    helm.sh/hook: {{ .events }}
    helm.sh/hook-delete-policy: before-hook-creation
spec:
  backoffLimit: 0
  template:
    metadata:
      labels:
        {{- include "edges.labels" .root | nindent 8 }}
      annotations:
        parallel-hooks.test/duration: {{ .root.Values.duration | quote }}
        parallel-hooks.test/exit-code: {{ $failing | ternary "1" "0" | quote }}
    spec:
      restartPolicy: Never
      containers:
        - name: hook
          image: busybox:1.37
          command: ["sh", "-c"]
          args:
            - sleep {{ .root.Values.duration }}; exit {{ $failing | ternary 1 0 }}
          {{- with .configMap }}
          envFrom:
            - configMapRef:
                name: {{ . }}
          {{- end }}
{{- end -}}
