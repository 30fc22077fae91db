{{/*
The migration of a service's schema, for a service that needs nothing for it.
*/}}
{{- define "service.migration" -}}
{{- include "service.job" (dict
      "context" .
      "component" "migrate"
      "events" "pre-install,pre-upgrade"
      "weight" .Values.global.hookWeights.migration
      "task" .Values.migration) }}
{{- end -}}

{{/*
The migration of a service that has a lot of data: it runs as an account of its
own, which may lock the service, and has a workspace for what it takes out of
the tables meanwhile. All of that has the weight and the name of the Job.
*/}}
{{- define "service.migrationWithWorkspace" -}}
{{- $name := printf "%s-migrate" (include "service.fullname" .) -}}
{{- include "service.migrationAccess" (dict "context" . "name" $name "serviceAccount" $name) }}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  {{- include "service.migrationMetadata" . | nindent 2 }}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ $name }}
  {{- include "service.migrationMetadata" . | nindent 2 }}
spec:
  accessModes: ["ReadWriteOnce"]
  resources:
    requests:
      storage: {{ .Values.migration.workspace }}
  {{- with .Values.global.workspace.storageClassName }}
  storageClassName: {{ . }}
  {{- end }}
---
{{ include "service.job" (dict
      "context" .
      "component" "migrate"
      "events" "pre-install,pre-upgrade"
      "weight" .Values.global.hookWeights.migration
      "task" .Values.migration
      "configMap" $name
      "serviceAccount" $name
      "claim" $name) }}
{{- end -}}

{{/*
The settings of a migration, and the right to lock the service while it runs.
Takes a dict: context, name (of the objects), serviceAccount (that gets the right).
*/}}
{{- define "service.migrationAccess" -}}
{{- $chart := .context -}}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  {{- include "service.migrationMetadata" $chart | nindent 2 }}
data:
  BATCH_SIZE: {{ $chart.Values.migration.batchSize | quote }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  {{- include "service.migrationMetadata" $chart | nindent 2 }}
rules:
  - apiGroups: ["coordination.k8s.io"]
    resources: ["leases"]
    verbs: ["get", "create", "update", "delete"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  {{- include "service.migrationMetadata" $chart | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: Role
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .serviceAccount }}
    namespace: {{ $chart.Release.Namespace }}
{{- end -}}

{{/*
Labels and annotations of what a migration needs only while it runs.
*/}}
{{- define "service.migrationMetadata" -}}
labels:
  {{- include "service.labels" . | nindent 2 }}
  app.kubernetes.io/component: migrate
annotations:
  helm.sh/hook: pre-install,pre-upgrade
  helm.sh/hook-weight: {{ .Values.global.hookWeights.migration | quote }}
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
