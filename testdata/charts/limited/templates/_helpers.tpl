{{/*
The hooks of a chart, all of one weight. A simulated node obeys the annotations of their pods.
*/}}
{{- define "limited.jobs" -}}
{{- range $number := until (int .Values.global.jobs) }}
---
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ printf "%s-%02d" $.Chart.Name $number }}
  annotations:
    helm.sh/hook: {{ join "," $.Values.global.event }}
spec:
  backoffLimit: 0
  template:
    metadata:
      annotations:
        parallel-hooks.test/duration: {{ $.Values.global.duration }}
    spec:
      restartPolicy: Never
      containers:
        - name: hook
          image: busybox:1.37
          command: ["sleep", {{ $.Values.global.duration | quote }}]
{{- end }}
{{- end -}}
