{{/*
Labels of everything that the chart creates.
*/}}
{{- define "tiers.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{/*
Annotations that a simulated node obeys. Takes a dict: name, duration, root.
*/}}
{{- define "tiers.run" -}}
parallel-hooks.test/duration: {{ .duration | quote }}
parallel-hooks.test/exit-code: {{ has .name .root.Values.failing | ternary "1" "0" | quote }}
{{- with get .root.Values.logs .name }}
parallel-hooks.test/logs: {{ . | quote }}
{{- end }}
{{- with .root.Values.logRate }}
parallel-hooks.test/log-rate: {{ . | quote }}
{{- end }}
{{- end -}}

{{/*
What a Pod does, for a node that really runs it. Takes the same dict.
*/}}
{{- define "tiers.podSpec" -}}
restartPolicy: Never
containers:
  - name: hook
    image: busybox:1.37
    command: ["sh", "-c"]
    args:
      - echo "{{ .name }}"; sleep {{ .duration }}; exit {{ has .name .root.Values.failing | ternary 1 0 }}
{{- end -}}
