{{/*
Labels of everything that the chart creates.
*/}}
{{- define "release.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
Annotations that a simulated node obeys. Takes a dict: name, root.
*/}}
{{- define "release.run" -}}
parallel-hooks.test/duration: {{ has .name .root.Values.slow | ternary "1h" .root.Values.duration | quote }}
parallel-hooks.test/exit-code: {{ has .name .root.Values.failing | ternary "1" "0" | quote }}
parallel-hooks.test/logs: "{{ .name }} of revision {{ .root.Release.Revision }}\nis done"
{{- end -}}

{{/*
What the pod of a hook does, for a node that really runs it. Takes the same dict.
*/}}
{{- define "release.podSpec" -}}
restartPolicy: Never
containers:
  - name: hook
    image: busybox:1.37
    command: ["sh", "-c"]
    args:
      - echo {{ .name }}; sleep {{ has .name .root.Values.slow | ternary "1h" .root.Values.duration }}; exit {{ has .name .root.Values.failing | ternary 1 0 }}
{{- end -}}
