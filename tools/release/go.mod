module github.com/helm-parallel-hooks/helm-parallel-hooks/tools/release

go 1.26.0

require (
	github.com/CycloneDX/cyclonedx-go v0.12.0
	go.yaml.in/yaml/v3 v3.0.6
)

require github.com/google/licensecheck v0.3.1
