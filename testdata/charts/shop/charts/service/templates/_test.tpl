{{/*
A Pod for `helm test`: does the service answer?
*/}}
{{- define "service.test" -}}
apiVersion: v1
kind: Pod
metadata:
  name: {{ include "service.fullname" . }}-test
  labels:
    {{- include "service.labels" . | nindent 4 }}
    app.kubernetes.io/component: test
  annotations:
    helm.sh/hook: test
    helm.sh/hook-delete-policy: before-hook-creation
    # A simulated node obeys these; a real one runs the command below.
    parallel-hooks.test/duration: {{ .Values.test.duration | quote }}
    parallel-hooks.test/exit-code: {{ .Values.test.exitCode | default 0 | quote }}
spec:
  restartPolicy: Never
  containers:
    - name: test
      image: {{ include "service.image" . }}
      command: ["sh", "-c"]
      args:
        - nc -z {{ include "service.fullname" . }} 80 && sleep {{ .Values.test.duration }} && exit {{ .Values.test.exitCode | default 0 }}
      resources:
        requests:
          cpu: 10m
          memory: 16Mi
{{- end -}}
