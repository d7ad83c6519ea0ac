{{/* The name of everything. 52 characters leave room for the hash that a StatefulSet puts into a label. */}}
{{- define "moderation-worker.name" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride }}
{{- else if contains .Chart.Name .Release.Name }}
{{- .Release.Name | trunc 52 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What selects the replicas of this release; never changes. */}}
{{- define "moderation-worker.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "moderation-worker.labels" -}}
{{ include "moderation-worker.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What the gate's pods are called by; no selector of the replicas may match them. */}}
{{- define "moderation-worker.gateSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-gate
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "moderation-worker.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{/* What every container of ours has: where its configuration is, and the secrets that this refers to. */}}
{{- define "moderation-worker.env" -}}
# For commands typed inside the pod.
- name: MODERATION_WORKER_CONFIG
  value: /etc/moderation-worker/config.yaml
{{- range $name, $secret := .Values.secrets.env }}
- name: {{ $name }}
  valueFrom:
    secretKeyRef:
      {{- toYaml $secret | nindent 6 }}
{{- end }}
{{- with .Values.extraEnv }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "moderation-worker.mounts" -}}
- name: config
  mountPath: /etc/moderation-worker
  readOnly: true
{{- if .Values.secrets.existingSecret }}
- name: secrets
  mountPath: /run/secrets
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "moderation-worker.volumes" -}}
- name: config
  configMap:
    name: {{ include "moderation-worker.name" . }}
{{- with .Values.secrets.existingSecret }}
- name: secrets
  secret:
    secretName: {{ . }}
    defaultMode: 0440
{{- end }}
{{- with .Values.extraVolumes }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end }}

{{- define "moderation-worker.serviceAccount" -}}
{{- if .Values.serviceAccount.name }}
{{- .Values.serviceAccount.name }}
{{- else }}
{{- .Values.serviceAccount.create | ternary (include "moderation-worker.name" .) "default" }}
{{- end }}
{{- end }}

{{/* The keys of the configuration file whose values are secrets, wherever they stand. */}}
{{- define "moderation-worker.secretKeys" -}}
access_key access_key_secret api_key secret_key security_token password sasl_plain_password ssl_password
{{- end }}

{{/* Ends the rendering where a secret stands in the configuration itself; names its place, never its value. */}}
{{- define "moderation-worker.refuseSecrets" -}}
{{- $place := .place }}
{{- $secret := include "moderation-worker.secretKeys" . | splitList " " }}
{{- range $key, $value := .section }}
{{- if kindIs "map" $value }}
{{- include "moderation-worker.refuseSecrets" (dict "place" (printf "%s.%s" $place $key) "section" $value) }}
{{- else if and (has $key $secret) (not (regexMatch "^\\$\\{.+\\}$" (toString $value))) }}
{{- fail (printf "%s.%s would put a secret into a ConfigMap: write ${NAME} and give NAME in secrets.env, or ${file:/run/secrets/KEY} with secrets.existingSecret" $place $key) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The configuration file: the user's, with what only the chart can know. */}}
{{- define "moderation-worker.config" -}}
{{- $config := deepCopy .Values.config }}
{{- if or (hasKey $config "ops") (hasKey $config.kafka "instance_id") }}
{{- fail "config.ops and config.kafka.instance_id are set by the chart (port 9464, the pod's name): leave them out" }}
{{- end }}
{{- include "moderation-worker.refuseSecrets" (dict "place" "config" "section" $config) }}
{{- $_ := set $config.kafka "instance_id" "${HOSTNAME}" }}
{{- $_ := set $config "ops" (dict "host" "0.0.0.0" "port" 9464) }}
{{- if .Values.gate.enabled }}
{{- $_ := set $config "gate" (merge (dict "host" "0.0.0.0" "port" 9465) (default dict $config.gate)) }}
{{- end }}
{{- toYaml $config }}
{{- end }}
