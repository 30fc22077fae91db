{{/*
A Job that runs as a hook. Takes a dict:
  context         the chart's own scope
  component       what the Job does; the last part of its name
  events, weight  when it runs
  task            the values of the task: duration, exitCode
  configMap       optional: a ConfigMap whose keys it gets as environment
  serviceAccount  optional: the ServiceAccount that it runs as
  claim           optional: the PersistentVolumeClaim that is its workspace
*/}}
{{- define "service.job" -}}
{{- $chart := .context -}}
apiVersion: batch/v1
kind: Job
metadata:
  name: {{ include "service.fullname" $chart }}-{{ .component }}
  labels:
    {{- include "service.labels" $chart | nindent 4 }}
    app.kubernetes.io/component: {{ .component }}
  annotations:
    helm.sh/hook: {{ .events }}
    helm.sh/hook-weight: {{ .weight | quote }}
    helm.sh/hook-delete-policy: before-hook-creation{{ if .claim }},hook-succeeded,hook-failed{{ end }}
spec:
  # What stopped half-way wants a person, not a second try.
  backoffLimit: 0
  {{- if .claim }}
  # A claim cannot be deleted while a pod that mounts it exists, even one that
  # has ended. After a failure elsewhere Helm deletes claims before the Jobs
  # that used them, and would wait in vain if they did not go by themselves.
  ttlSecondsAfterFinished: 5
  {{- end }}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {{ $chart.Chart.Name }}
        app.kubernetes.io/instance: {{ $chart.Release.Name }}
        app.kubernetes.io/component: {{ .component }}
      annotations:
        # A simulated node obeys these; a real one runs the command below.
        parallel-hooks.test/duration: {{ .task.duration | quote }}
        parallel-hooks.test/exit-code: {{ .task.exitCode | default 0 | quote }}
    spec:
      restartPolicy: Never
      {{- with .serviceAccount }}
      serviceAccountName: {{ . }}
      {{- end }}
      containers:
        - name: {{ .component }}
          image: {{ include "service.image" $chart }}
          command: ["sh", "-c"]
          args:
            - echo "{{ $chart.Chart.Name }} {{ .component }}"; sleep {{ .task.duration }}; exit {{ .task.exitCode | default 0 }}
          {{- with .configMap }}
          envFrom:
            - configMapRef:
                name: {{ . }}
                # Helm creates hooks of one weight by name, so a Job may come
                # before its settings; it has defaults of its own for them.
                optional: true
          {{- end }}
          resources:
            requests:
              cpu: 10m
              memory: 16Mi
          {{- if .claim }}
          volumeMounts:
            - name: workspace
              mountPath: /workspace
          {{- end }}
      {{- with .claim }}
      volumes:
        - name: workspace
          persistentVolumeClaim:
            claimName: {{ . }}
      {{- end }}
{{- end -}}
